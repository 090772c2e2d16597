//! Deleting a container or an exec, and stopping all of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::container::Container;
use super::create::unwind;
use super::error::TaskError;
use super::ids::{ContainerId, ExecId, ProcessId};
use super::kill::kill_init;
use super::registry::Tasks;
use super::state::{Op, State};
use crate::events::Happening;
use crate::io::Relays;
use crate::reaper::Reaped;

/// What a Delete answers.
#[derive(Debug, Clone, Copy)]
pub struct Deleted {
    pub pid: u32,
    /// `None` for an exec that never ran.
    pub reaped: Option<Reaped>,
}

impl Tasks {
    /// Deletes a stopped or never started process. For an init that takes the container with it. `patience` is how
    /// long the caller waits; waiting here ends before that, so that there is time left to answer.
    pub async fn delete(
        &self,
        id: &ContainerId,
        who: &ProcessId,
        patience: Option<Duration>,
    ) -> Result<Deleted, TaskError> {
        let container = self.get(id)?;
        let before = container.step(who, "delete", Op::Delete)?;
        let bounds = self.parts().bounds;
        let left = patience.map(|patience| patience.saturating_sub(bounds.delete_margin));
        let until = Instant::now() + bounds.delete_drain.min(left.unwrap_or(Duration::MAX));
        let deleted = match who {
            ProcessId::Init => self.delete_init(&container, before, until).await,
            ProcessId::Exec(exec) => delete_exec(&container, exec, until).await,
        };
        if deleted.is_err() {
            // Refused only when there is nothing to put back.
            let _ = container.step(who, "delete", Op::DeleteFailed);
        }
        deleted
    }

    async fn delete_init(
        &self,
        container: &Arc<Container>,
        before: State,
        until: Instant,
    ) -> Result<Deleted, TaskError> {
        let init = &ProcessId::Init;
        let reaped = match before.reaped() {
            Some(_) => exit_told(container, init, until).await?,
            None => {
                match kill_init(container).await {
                    Err(TaskError::Finished(_)) | Ok(()) => {}
                    Err(error) => return Err(error),
                }
                // It is a matter of moments, which a caller in a hurry must not cut short: it would find it dead.
                exit_told(container, init, until.max(Instant::now() + self.parts().bounds.delete_margin))
                    .await?
            }
        };
        drain(container, container.take_relays(), until).await;
        self.dismantle(container).await?;
        self.remove(&container.id);
        container.forget_execs();
        let pid = container.snapshot(init)?.pid;
        if self.parts().publish_delete {
            let (status, at) = (reaped.exit.status(), Some(reaped.at));
            container.publish(Happening::Deleted { pid, status, at });
        }
        tracing::info!(container = %container.id, "deleted");
        Ok(Deleted { pid, reaped: Some(reaped) })
    }

    /// Removes what Create made, in reverse. Can be done again after a failure.
    async fn dismantle(&self, container: &Container) -> Result<(), TaskError> {
        container.runc.delete().await?;
        unwind(container.rootfs.clone()).await?;
        self.parts().bundles.remove(&container.bundle).await;
        Ok(())
    }

    /// Kills and removes every container: the end of the daemon. Takes no longer than twice `limit`.
    pub async fn stop_all(&self, limit: Duration) {
        self.close();
        self.parts().runtime.stop();
        if tokio::time::timeout(limit, self.stop_each()).await.is_err() {
            tracing::warn!("containers were not stopped in time");
        }
        self.finish_followers(limit).await;
    }

    async fn stop_each(&self) {
        // Those that are there now are stopped at once; a runc that hangs in a Create holds up only itself.
        self.stop_these(self.all()).await;
        self.no_create_under_way().await;
        self.stop_these(self.all()).await;
    }

    async fn stop_these(&self, containers: Vec<Arc<Container>>) {
        let mut stops = JoinSet::new();
        for container in containers {
            let tasks = self.clone();
            stops.spawn(async move { tasks.stop(&container).await });
        }
        while let Some(stopped) = stops.join_next().await {
            if let Err(error) = stopped {
                tracing::error!(%error, "stopping a container panicked");
            }
        }
    }

    /// Kills a container and deletes it; one whose Delete is under way is left to that.
    async fn stop(&self, container: &Container) {
        // Refused when it has ended; and then that is as well.
        let _ = kill_init(container).await;
        let until = Instant::now() + self.parts().bounds.delete_drain;
        let told = exit_told(container, &ProcessId::Init, until).await;
        // Their readers are waited for once, for all containers together.
        container.take_relays().into_iter().for_each(Relays::release);
        let deleted = match told {
            Ok(_) => self.delete(&container.id, &ProcessId::Init, None).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = deleted {
            tracing::warn!(container = %container.id, %error, "cannot remove a container");
        }
    }
}

async fn exit_told(container: &Container, who: &ProcessId, until: Instant) -> Result<Reaped, TaskError> {
    let told = tokio::time::timeout_at(until, container.wait(who)).await;
    told.map_err(|_| TaskError::Deadline("the end of the process"))?
}

/// Lets the readers take what processes have written; then the streams are closed.
async fn drain(container: &Container, relays: Vec<Relays>, until: Instant) {
    for relays in &relays {
        if !relays.output_done().within(until.duration_since(Instant::now())).await {
            tracing::warn!(container = %container.id, "output was not taken in time");
        }
    }
}

async fn delete_exec(container: &Container, exec: &ExecId, until: Instant) -> Result<Deleted, TaskError> {
    let who = ProcessId::Exec(exec.clone());
    let (pid, ran) = container.with(&who, |entry| (entry.pid(), entry.state.reaped().is_some()))?;
    let reaped = match ran {
        true => Some(exit_told(container, &who, until).await?),
        false => None,
    };
    let relays = container.with(&who, |entry| entry.relays.take())?;
    drain(container, relays.into_iter().collect(), until).await;
    // Whoever waits for one that never ran learns it from its sender's end.
    container.processes().execs.remove(exec);
    Ok(Deleted { pid, reaped })
}
