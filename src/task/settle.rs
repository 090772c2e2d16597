//! What follows the death of a process until its exit may be told.

use std::sync::Arc;

use super::container::Container;
use super::gate::Input;
use super::ids::ProcessId;
use super::kill::kill_rest;
use super::oom;
use super::registry::Tasks;
use crate::reaper::ExitOf;

/// Waits for one process to be reaped, then for all that its exit gate waits for.
pub async fn follow(tasks: Tasks, container: Arc<Container>, who: ProcessId, mut exit: ExitOf) {
    // Without a reaper the daemon is on its way down.
    let Ok(reaped) = exit.wait().await else { return };
    let output = container.reaped(&who, reaped);
    let drained = async {
        let complete = match output {
            Some(output) => output.within(tasks.parts().bounds.io_drain).await,
            None => true,
        };
        if !complete {
            tracing::info!(container = %container.id, process = %who, "output still open after the exit");
        }
        container.feed(&mut container.processes(), &who, Input::OutputDone);
    };
    oom::read_last(&container, &who, reaped);
    tokio::join!(drained, bury(&tasks, &container, &who));
}

/// Sees to it that nothing of a container outlives its init. In a private pid namespace the kernel has done that.
async fn bury(tasks: &Tasks, container: &Container, who: &ProcessId) {
    if *who != ProcessId::Init {
        return;
    }
    container.runc.init_ended();
    if !container.private_pid_namespace {
        kill_rest(tasks, container).await;
    }
    container.feed(&mut container.processes(), who, Input::KillAllDone);
}
