//! Delete, of an exec and of a whole task with its machine. Owns the order, and that an answer means that nothing is left.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;
use vminitd_api::containerd::api::DeleteRequest;
use vminitd_api::ttrpc::Code;

use super::ground::Ground;
use super::link::{Fate, LONG};
use super::process::Status;
use super::{Entry, TaskError, Tasks};
use crate::client::INIT;
use crate::state::Exit;
use crate::stdio::{Relays, DELETE_DRAIN, EXIT_DRAIN};

/// An exit that the guest has told is told on after this at the latest: its own drain, and that of an exec before it.
const EXIT: Duration = Duration::from_secs(2 * EXIT_DRAIN.as_secs() + 1);

/// What Delete answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deleted {
    pub pid: u32,
    /// None of an exec that never ran.
    pub exit: Option<Exit>,
}

impl Tasks {
    /// Forgets an exec that has ended or never ran, or a task with all there is of it.
    ///
    /// # Errors
    /// `Guest`, with what the guest has against it, as while it runs: it is all there then. Any other: call it again.
    pub async fn delete(&self, id: &str, exec_id: &str) -> Result<Deleted, TaskError> {
        let entry = self.find(id)?;
        if exec_id != INIT {
            return entry.delete_exec(exec_id).await;
        }
        let mut ground = entry.ground.try_lock().map_err(|_| entry.busy("delete"))?;
        let exit = entry.delete_init(&mut ground).await?;
        self.remove(id);
        tracing::info!(id, "deleted");
        entry.container.publish_deleted(exit);
        Ok(Deleted { pid: entry.container.init_pid(), exit: Some(exit) })
    }
}

impl Entry {
    async fn delete_exec(&self, exec_id: &str) -> Result<Deleted, TaskError> {
        let before = self.container.snapshot(exec_id)?;
        match self.guest_delete(exec_id).await {
            // With its machine every process has ended.
            Ok(()) | Err(TaskError::Lost(_)) => {}
            // An earlier Delete got as far as that.
            Err(TaskError::Guest(status)) if status.code() == Code::NOT_FOUND => {}
            Err(error) => return Err(error),
        }
        let exit = match before.status {
            Status::Created => None,
            Status::Running | Status::Paused | Status::Stopped => Some(self.exit(exec_id).await?),
        };
        release_all(self.container.remove(exec_id).and_then(|process| process.relays)).await;
        Ok(Deleted { pid: before.pid, exit })
    }

    async fn delete_init(&self, ground: &mut Ground) -> Result<Exit, TaskError> {
        match self.guest_delete(INIT).await {
            Ok(()) | Err(TaskError::Lost(_)) => {}
            Err(error) if self.is_running() => return Err(error),
            // Its machine is about to end, and that with it.
            Err(error) => tracing::warn!(id = self.container.id(), %error, "the guest could not delete it"),
        }
        if self.exit(INIT).await.is_err() {
            self.container.all_ended(Exit::KILLED);
        }
        let exit = self.exit(INIT).await?;
        release_all(self.container.take_relays()).await;
        self.watch.abort();
        self.link.doom(Fate { status: Exit::KILLED, reason: "its task was deleted".to_owned() });
        self.machine.stop().await;
        ground.take_down().await?;
        Ok(exit)
    }

    fn is_running(&self) -> bool {
        let init = self.container.snapshot(INIT);
        init.is_ok_and(|init| matches!(init.status, Status::Running | Status::Paused))
    }

    async fn guest_delete(&self, exec_id: &str) -> Result<(), TaskError> {
        let request =
            DeleteRequest { id: self.container.id().into(), exec_id: exec_id.into(), ..Default::default() };
        let task = self.link.client.task();
        self.link.call("Task.Delete", LONG, |ctx| async { task.delete(ctx, &request).await }).await.map(drop)
    }

    /// The exit of a process that has ended.
    async fn exit(&self, exec_id: &str) -> Result<Exit, TaskError> {
        let late = || TaskError::NoExit(self.container.process_name(exec_id));
        let mut exit = self.container.watch(exec_id)?;
        let exit = timeout(EXIT, exit.wait_for(Option::is_some)).await.map_err(|_| late())?;
        exit.ok().and_then(|exit| *exit).ok_or_else(late)
    }
}

/// Lets the output of these end, within a bound, and closes it: of all at once, for readers may be gone.
async fn release_all(relays: impl IntoIterator<Item = Relays>) {
    let release = async |relays: Relays| {
        relays.drained(DELETE_DRAIN).await;
        relays.release().await;
    };
    join_all(relays.into_iter().map(release)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    use tokio::net::UnixStream;
    use tokio::time::Instant;

    use crate::stdio::{Ends, GuestEnds, Owner, StdioSpec};

    #[tokio::test(start_paused = true)]
    async fn outputs_that_do_not_end_hold_a_delete_up_for_one_bound_together() {
        let dir = tempfile::tempdir().unwrap();
        let (mut relays, mut guests) = (Vec::new(), Vec::new());
        for name in ["one", "two", "three"] {
            let spec =
                StdioSpec::parse(false, "", &format!("file://{}/{name}", dir.path().display()), "").unwrap();
            let ends = Ends::open(&spec, Owner { namespace: "n", id: name }).await.unwrap();
            let (guest, host) = UnixStream::pair().unwrap();
            relays.push(ends.relay(GuestEnds { stdout: Some(host), ..GuestEnds::default() }));
            guests.push(guest);
        }
        let begin = Instant::now();
        release_all(relays).await;
        assert!((DELETE_DRAIN..2 * DELETE_DRAIN).contains(&begin.elapsed()));
    }
}
