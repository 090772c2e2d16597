//! Undoing what a record names, for the command `delete`. Owns the order and its deadlines; the network it leaves to
//! the caller.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::time::{timeout_at, Instant};

use super::{remove, Exit, Role, State, StateError, Wiring};
use crate::hooks::{self, ContainerState, Status};

/// The marker of the `poststop` hooks, in the container's folder.
const MARKER: &str = "poststop";
/// For everything together: `delete` has 4.5 s, and has to say how it went.
const ALL: Duration = Duration::from_secs(4);
/// What is killed is gone in milliseconds, QEMU with its memory in some hundreds.
const VM: Duration = Duration::from_secs(1);
/// What a hook that the shim was killed in may still take: a whole ADD of CNI takes 0.1 s. If all goes as slowly as it
/// may, the `poststop` hooks still have the second that nerdctl's takes when it has to wait for its lock.
const HOOK: Duration = Duration::from_millis(500);
/// For a process without much memory.
const KILL: Duration = Duration::from_millis(300);

/// What is known of the end of a task's init.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deleted {
    /// The pid that Task.Create answered; 0 if that was never.
    pub pid: u32,
    /// [`Exit::KILLED`], and now, for what was killed with its VM.
    pub exit: Exit,
}

impl State {
    /// Runs those `poststop` hooks that have not run yet; `dir` is the container's folder. The holder has to be gone.
    /// `began` gets the pid of each, for the record.
    ///
    /// # Errors
    /// `Poststop`.
    pub async fn poststop(&self, dir: &Path, began: impl FnMut(u32)) -> Result<(), StateError> {
        let stopped = ContainerState { status: Status::Stopped, pid: None, ..self.container.clone() };
        Ok(hooks::poststop(&dir.join(MARKER), &self.poststop, &stopped, began).await?)
    }

    /// Lets the hook that ran when the shim was killed come to its end.
    async fn end_hook(&self) -> Result<(), StateError> {
        match self.wait_recorded(Role::Hook, HOOK).await {
            Ok(()) => Ok(()),
            Err(_) => self.kill_recorded(&[Role::Hook], KILL).await,
        }
    }

    /// The container's network namespace; none once it cannot be entered any more.
    ///
    /// # Errors
    /// `Process`, if it cannot be told whether the holder lives.
    fn network(&self) -> Result<Option<PathBuf>, StateError> {
        if let Some(path) = &self.wiring.namespace {
            return Ok(Some(path.clone()));
        }
        let Some(holder) = self.processes.get(&Role::Holder) else { return Ok(None) };
        Ok(holder.exists()?.then(|| format!("/proc/{}/ns/net", holder.pid).into()))
    }

    fn deleted(&self) -> Deleted {
        let pid = self.processes.get(&Role::Holder).map_or(0, |holder| holder.pid);
        Deleted { pid, exit: self.exit.unwrap_or_else(killed) }
    }
}

fn killed() -> Exit {
    Exit { status: Exit::KILLED, at: SystemTime::now() }
}

/// Kills whatever is left of the container in `dir`, has its network unwired, runs its `poststop` hooks and removes the
/// folder. It takes less than 4.5 s if `unwire` takes less than one, and may be called again and again.
///
/// `unwire` gets the path of the network namespace and what is in it. It logs its own errors: much of it goes by
/// itself.
///
/// # Errors
/// The first of whatever went wrong. All the rest was done, but the folder is kept for another try.
pub async fn cleanup<U>(dir: &Path, unwire: U) -> Result<Deleted, StateError>
where
    U: AsyncFnOnce(&Path, &Wiring),
{
    let deadline = Instant::now() + ALL;
    let Some(found) = State::load(dir)? else {
        remove(dir)?;
        return Ok(Deleted { pid: 0, exit: killed() });
    };
    let shim = found.kill_recorded(&[Role::Shim], KILL).await;
    // Until then it may have gone on: what it has begun is in the record, and there is none if it has come to the end.
    let Some(state) = State::load(dir)? else {
        remove(dir)?;
        return Ok(found.deleted());
    };
    let vm = state.kill_recorded(&[Role::Qemu, Role::Vsock, Role::Virtiofsd], VM).await;
    let hook = state.end_hook().await;
    if let Ok(Some(namespace)) = state.network() {
        unwire(&namespace, &state.wiring).await;
    }
    let holder = state.kill_recorded(&[Role::Holder], KILL).await;
    let mut recorded = state.clone();
    let began = |pid| {
        if let Err(error) = recorded.record(dir, Role::Hook, pid) {
            tracing::warn!(namespace = state.namespace, id = state.container.id, "cannot {error}");
        }
    };
    let poststop = timeout_at(deadline, state.poststop(dir, began)).await;
    let poststop = poststop.unwrap_or(Err(StateError::Late(ALL)));
    shim.and(vm).and(hook).and(holder).and(poststop)?;
    remove(dir)?;
    Ok(state.deleted())
}
