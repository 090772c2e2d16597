//! Pausing a container, resuming it, and writing it to a disk.

use std::path::PathBuf;
use std::time::Duration;

use super::container::Container;
use super::error::TaskError;
use super::gate::Input;
use super::ids::{ContainerId, ProcessId};
use super::registry::Tasks;
use super::state::{Op, State};
use super::CheckpointOptions;
use crate::events::Happening;
use crate::runc::{criu, RuncError};
use crate::sys::process::PATH;

/// What a Checkpoint asks for.
pub struct CheckpointRequest {
    pub container: ContainerId,
    /// The folder that the images go to.
    pub path: PathBuf,
    pub options: CheckpointOptions,
    /// How long the caller waits.
    pub patience: Option<Duration>,
}

impl Tasks {
    /// Freezes every process of a container. Meanwhile it can be looked at, waited for and killed.
    pub async fn pause(&self, id: &ContainerId) -> Result<(), TaskError> {
        let container = self.get(id)?;
        container.step(&ProcessId::Init, "pause", Op::Pause)?;
        let paused = container.runc.pause().await;
        // One that failed may have frozen some of it, or all: runc does not undo it.
        let frozen = paused.is_ok() || !resumed(&container).await;
        let (op, event) = match frozen {
            true => (Op::PauseDone, Some(Happening::Paused)),
            false => (Op::PauseFailed, None),
        };
        let concluded = container.conclude("pause", op, event);
        let killed = container.processes().killed;
        if killed {
            resume_killed(&container).await;
        }
        concluded?;
        Ok(paused?)
    }

    /// Thaws a container that was paused.
    pub async fn resume(&self, id: &ContainerId) -> Result<(), TaskError> {
        let container = self.get(id)?;
        container.step(&ProcessId::Init, "resume", Op::Resume)?;
        let resumed = resume(&container).await;
        let (op, event) = match resumed {
            Ok(()) => (Op::ResumeDone, Some(Happening::Resumed)),
            Err(_) => (Op::ResumeFailed, None),
        };
        container.conclude("resume", op, event)?;
        Ok(resumed?)
    }

    /// Writes the state of a container's processes into a folder, by criu. Whether they go on is one of the options.
    pub async fn checkpoint(&self, request: CheckpointRequest) -> Result<(), TaskError> {
        let container = self.get(&request.container)?;
        let before = container.require(State::is_checkpointable, "checkpoint")?;
        if criu::find(PATH).is_none() {
            return Err(TaskError::NoCriu);
        }
        // One that ends with its checkpoint is told of after it.
        container.feed(&mut container.processes(), &ProcessId::Init, Input::CallBegan);
        let saved = container.runc.checkpoint(&request.path, &request.options, request.patience).await;
        if saved.is_err() && before == State::Running {
            // criu freezes what it saves, and may have been cut off.
            resumed(&container).await;
        }
        let mut processes = container.processes();
        if saved.is_ok() {
            container.publish(Happening::Checkpointed { path: request.path });
        }
        container.feed(&mut processes, &ProcessId::Init, Input::CallEnded);
        Ok(saved?)
    }
}

/// Lets what is frozen go on, if anything is. Says whether nothing is frozen now.
async fn resumed(container: &Container) -> bool {
    let resumed = resume(container).await;
    if let Err(error) = &resumed {
        tracing::warn!(container = %container.id, %error, "cannot resume");
    }
    resumed.is_ok()
}

async fn resume(container: &Container) -> Result<(), RuncError> {
    match container.runc.resume().await {
        // An earlier one that was cut off has done it, or there is nothing left to resume.
        Err(error) if error.is_not_paused() || error.is_finished() => Ok(()),
        other => other,
    }
}

/// On cgroup v1 a frozen process dies only when it is resumed; on v2 it dies at once (cgroup-v2.rst, cgroup.freeze).
pub(super) async fn resume_killed(container: &Container) {
    if container.cgroup.is_none() {
        resumed(container).await;
    }
}
