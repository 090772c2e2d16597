//! Deleting a container or an exec.

use std::sync::Arc;
use std::time::Duration;

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
        close(container, container.take_relays(), until).await;
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
        unwind(&self.parts().disks, container.rootfs.clone()).await?;
        self.parts().bundles.remove(&container.bundle).await;
        Ok(())
    }
}

pub(super) async fn exit_told(
    container: &Container,
    who: &ProcessId,
    until: Instant,
) -> Result<Reaped, TaskError> {
    let told = tokio::time::timeout_at(until, container.wait(who)).await;
    told.map_err(|_| TaskError::Deadline("the end of the process"))?
}

/// Lets the readers take what processes have written; then closes the streams.
async fn close(container: &Container, relays: Vec<Relays>, until: Instant) {
    for relays in &relays {
        if !relays.output_done().within(until.duration_since(Instant::now())).await {
            tracing::warn!(container = %container.id, "output was not taken in time");
        }
    }
    drop(relays);
}

async fn delete_exec(container: &Container, exec: &ExecId, until: Instant) -> Result<Deleted, TaskError> {
    let who = ProcessId::Exec(exec.clone());
    let (pid, ran) = container.with(&who, |entry| (entry.pid(), entry.state.reaped().is_some()))?;
    let reaped = match ran {
        true => Some(exit_told(container, &who, until).await?),
        false => None,
    };
    let relays = container.with(&who, |entry| entry.relays.take())?;
    close(container, relays.into_iter().collect(), until).await;
    container.forget_exec(exec);
    Ok(Deleted { pid, reaped })
}
