//! Why a hook did not do its job.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Why a hook failed. `stderr` is the end of what it said.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    #[error("start the hook {path}: {source}")]
    Start { path: String, source: io::Error },
    /// Its end could not be awaited.
    #[error("wait for the hook {path}: {source}")]
    Wait { path: String, source: io::Error },
    #[error("run the hook {path}: it ended with {status}: {stderr}")]
    Failed { path: String, status: ExitStatus, stderr: String },
    /// It was killed with its process group.
    #[error("run the hook {path}: it took longer than {limit:?}: {stderr}")]
    Late { path: String, limit: Duration, stderr: String },
}

/// Why nobody can say that all `poststop` hooks have run.
#[derive(Debug, thiserror::Error)]
pub enum PoststopError {
    /// The record cannot be read or written.
    #[error("use {}: {source}", path.display())]
    Marker { path: PathBuf, source: io::Error },
    /// Another process is at it, and did not come to an end.
    #[error("have the poststop hooks to itself within {0:?}")]
    Busy(Duration),
}
