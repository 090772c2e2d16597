//! Why a root file system could not be put together or taken apart. Like every error here, it names its cause itself.

use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// Something this guest does not do, in a request that is well formed.
    #[error("unsupported {what} {value:?}")]
    Unsupported { what: &'static str, value: String },
    /// The target would lead out of the place of its mount.
    #[error("mount target {target:?} leads out of the bundle")]
    Escape { target: String },
    /// The kernel takes one page of options, its end included.
    #[error("mount options of {length} bytes are more than a page")]
    OptionsTooLong { length: usize },
    /// No block device of this serial appeared in time.
    #[error("resolve block device by serial {serial:?}: not found")]
    NoDevice { serial: String },
    #[error("mount {kind} {from:?} at {}: {source}", .target.display())]
    Mount { kind: String, from: String, target: PathBuf, source: io::Error },
    #[error("unmount {}: {source}", .path.display())]
    Unmount { path: PathBuf, source: io::Error },
    /// A path of the bundle could not be looked at, made or removed.
    #[error("use {}: {source}", .path.display())]
    Path { path: PathBuf, source: io::Error },
}

impl RootfsError {
    pub(super) fn path(path: &Path, source: io::Error) -> RootfsError {
        RootfsError::Path { path: path.to_owned(), source }
    }
}
