//! Why there is no holder.

use std::io;
use std::time::Duration;

/// Why the process that is to be a holder could not become one; it says so to the shim and ends.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// Only the shim calls it, and it knows how.
    #[error("understand the arguments of hold")]
    Usage,
    /// The parent-death signal was armed too late to be sent.
    #[error("hold anything for a shim that has gone")]
    Orphan,
    /// `step` names the path, if there is one that the container's spec chose.
    #[error("{step}: {source}")]
    Step { step: String, source: io::Error },
    #[error("install the seccomp filter: {0}")]
    Filter(#[source] seccompiler::Error),
}

/// Why the shim has no holder, or cannot say that it is gone.
#[derive(Debug, thiserror::Error)]
pub enum HolderError {
    #[error("start the holder: {0}")]
    Start(#[source] io::Error),
    /// What the process said before it ended.
    #[error("start the process that stands for the container: {0}")]
    Ended(String),
    #[error("stop the holder: {0}")]
    Stop(#[source] io::Error),
    #[error("see {what} within {within:?}")]
    Timeout { what: &'static str, within: Duration },
}
