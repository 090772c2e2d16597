//! Signals: to one process, or to all of a container.

use super::container::Container;
use super::error::TaskError;
use super::ids::{ContainerId, ProcessId};
use super::pause::resume_killed;
use super::registry::Tasks;
use super::state::State;
use crate::sys::signal::Signal;

impl Tasks {
    /// Signals one process, or with `all` every process of the container.
    pub async fn kill(
        &self,
        id: &ContainerId,
        who: &ProcessId,
        signal: Signal,
        all: bool,
    ) -> Result<(), TaskError> {
        let container = self.get(id)?;
        match who {
            ProcessId::Init if all && container.snapshot(who)?.reaped.is_none() => {
                signal_all(self, &container, signal).await
            }
            ProcessId::Init if signal == Signal::KILL => kill_init(&container).await,
            _ => container.signal(who, signal),
        }
    }
}

/// Kills the init, frozen or not; in a pid namespace of its own the kernel then kills the rest.
pub(super) async fn kill_init(container: &Container) -> Result<(), TaskError> {
    container.signal(&ProcessId::Init, Signal::KILL)?;
    if killed(container) == State::Paused {
        resume_killed(container).await;
    }
    Ok(())
}

/// Takes note of a kill, for a pause that is under way. Returns the state of the init.
fn killed(container: &Container) -> State {
    let mut processes = container.processes();
    processes.killed = true;
    processes.init.state
}

/// Signals all that is in the container's cgroup, or of its processes those that we know if it shares that cgroup.
async fn signal_all(tasks: &Tasks, container: &Container, signal: Signal) -> Result<(), TaskError> {
    if tasks.shares_cgroup(container) {
        signal_known(container, signal);
        return Ok(());
    }
    if let (Signal::KILL, Some(cgroup)) = (signal, &container.cgroup) {
        // Unlike a walk over pids, no process can fork its way out of this. It is done in place: writing to this file
        // sends signals and nothing else, which no disk can hold up.
        match cgroup.kill() {
            Ok(()) => return Ok(()),
            Err(error) => tracing::debug!(container = %container.id, %error, "cannot kill by cgroup.kill"),
        }
    }
    if signal == Signal::KILL {
        // runc itself thaws what is paused by now.
        killed(container);
    }
    match container.runc.kill_all(signal).await {
        Err(error) if error.is_finished() => Err(TaskError::Finished(ProcessId::Init)),
        other => Ok(other?),
    }
}

/// Signals the init and the execs, as far as they run.
fn signal_known(container: &Container, signal: Signal) {
    let processes = container.processes();
    for entry in processes.execs.values().chain([&processes.init]) {
        if let (None, Some(process)) = (entry.state.reaped(), &entry.process) {
            // ESRCH: it has ended this very moment.
            let _ = process.signal(signal);
        }
    }
}

/// Kills what the init of a container has left behind.
pub(super) async fn kill_rest(tasks: &Tasks, container: &Container) {
    if let Err(error) = signal_all(tasks, container, Signal::KILL).await {
        tracing::warn!(container = %container.id, %error, "cannot kill what its init left behind");
    }
    // An exec may have left the cgroup; its exit is waited for all the same.
    signal_known(container, Signal::KILL);
}
