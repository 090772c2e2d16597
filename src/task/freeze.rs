//! Freezing a container, thawing it, and writing it to a disk.

use std::path::PathBuf;
use std::time::Duration;

use super::container::Container;
use super::error::TaskError;
use super::ids::{ContainerId, ProcessId};
use super::kill::thaw_killed;
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
        if let Err(RuncError::Deadline { .. }) = paused {
            // Nobody can tell how much of it is frozen.
            thaw(&container).await;
        }
        let (op, event) = match paused {
            Ok(()) => (Op::PauseDone, Some(Happening::Paused)),
            Err(_) => (Op::PauseFailed, None),
        };
        let concluded = container.conclude("pause", op, event);
        let killed = container.processes().killed;
        if killed {
            thaw_killed(&container).await;
        }
        concluded?;
        Ok(paused?)
    }

    /// Thaws a container that was paused.
    pub async fn resume(&self, id: &ContainerId) -> Result<(), TaskError> {
        let container = self.get(id)?;
        container.step(&ProcessId::Init, "resume", Op::Resume)?;
        let resumed = match container.runc.resume().await {
            // An earlier resume that was cut off has done it.
            Err(error) if error.is_not_paused() => Ok(()),
            other => other,
        };
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
        container.require(State::is_checkpointable, "checkpoint")?;
        if criu::find(PATH).is_none() {
            return Err(TaskError::NoCriu);
        }
        container.runc.checkpoint(&request.path, &request.options, request.patience).await?;
        container.publish(Happening::Checkpointed { path: request.path });
        Ok(())
    }
}

/// Lets what is frozen go on, if anything is.
pub(super) async fn thaw(container: &Container) {
    if let Err(error) = container.runc.resume().await {
        tracing::debug!(container = %container.id, %error, "cannot thaw");
    }
}
