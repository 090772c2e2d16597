//! Why the record of a container is of no use, or could not be worked off.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::hooks::PoststopError;

/// Why something of a container may be left.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// It was not written by this version of the shim.
    #[error("understand {}: {source}", path.display())]
    Unknown { path: PathBuf, source: serde_json::Error },
    #[error("write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("remove {}: {source}", path.display())]
    Remove { path: PathBuf, source: io::Error },
    /// Removing what is below it would remove somebody else's files.
    #[error("remove {}: it is still a mount", .0.display())]
    Mounted(PathBuf),
    #[error("find out about process {pid}: {source}")]
    Process { pid: u32, source: io::Error },
    #[error("kill process {pid}: {source}")]
    Kill { pid: u32, source: io::Error },
    #[error("see the end of process {pid} within {within:?}")]
    Alive { pid: u32, within: Duration },
    #[error("{0}")]
    Poststop(#[from] PoststopError),
    /// What was left of the time for everything was not enough.
    #[error("come to the end of the poststop hooks within {0:?}")]
    Late(Duration),
}
