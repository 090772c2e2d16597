//! What follows the death of a process until its exit may be told.

use std::sync::Arc;

use super::container::Container;
use super::gate::Input;
use super::ids::ProcessId;
use super::registry::Parts;
use crate::reaper::ExitOf;
use crate::sys::signal::Signal;

/// Waits for one process to be reaped, then for all that its exit gate waits for.
pub async fn follow(parts: Parts, container: Arc<Container>, who: ProcessId, mut exit: ExitOf) {
    // Without a reaper the daemon is on its way down.
    let Ok(reaped) = exit.wait().await else { return };
    let output = container.reaped(&who, reaped);
    let drained = async {
        let complete = match output {
            Some(output) => output.within(parts.bounds.io_drain).await,
            None => true,
        };
        if !complete {
            tracing::info!(container = %container.id, process = %who, "output still open after the exit");
        }
        container.feed(&mut container.processes(), &who, Input::OutputDone);
    };
    match who {
        ProcessId::Init => tokio::join!(drained, kill_rest(&parts, &container)).0,
        ProcessId::Exec(_) => drained.await,
    }
}

/// Sees to it that nothing of a container outlives its init. In a private pid namespace the kernel has done that.
async fn kill_rest(parts: &Parts, container: &Container) {
    // No counter is watched, so there is none to read.
    container.feed(&mut container.processes(), &ProcessId::Init, Input::OomRead);
    if !container.private_pid_namespace {
        if let Err(error) = parts.runtime.kill_all(container.id.as_str(), Signal::KILL).await {
            tracing::warn!(container = %container.id, %error, "cannot kill what its init left behind");
        }
        kill_execs(container);
    }
    container.feed(&mut container.processes(), &ProcessId::Init, Input::KillAllDone);
}

/// An exec may have left the container's cgroup; its exit is waited for all the same.
fn kill_execs(container: &Container) {
    for exec in container.processes().execs.values() {
        if let (None, Some(process)) = (exec.state.reaped(), &exec.process) {
            // ESRCH: it has ended this very moment.
            let _ = process.signal(Signal::KILL);
        }
    }
}
