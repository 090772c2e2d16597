//! Why a root file system could not be put together or taken apart. Like every error here, it names its cause itself.

use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// Something this guest does not do, in a request that is well formed.
    #[error("unsupported {what} {value:?}")]
    Unsupported { what: &'static str, value: String },
    /// A part of the request that makes no sense.
    #[error("{what} {value:?}: {why}")]
    Invalid { what: &'static str, value: String, why: &'static str },
    /// The path leaves the place it has to be in, or runs through a symlink.
    #[error("{path:?} leads out of the bundle")]
    Escape { path: PathBuf },
    /// The kernel takes one page of options, its end included.
    #[error("mount options of {length} bytes are more than a page")]
    OptionsTooLong { length: usize },
    /// No block device of this serial, label or UUID appeared in time.
    #[error("resolve block device by {by} {name:?}: not found")]
    NoDevice { by: &'static str, name: String },
    /// Nothing appeared at this path of `/dev` in time.
    #[error("block device {path}: not found")]
    NoNode { path: String },
    #[error("attach {file} to a loop device: {source}")]
    Loop { file: String, source: io::Error },
    #[error("mount {kind} {from:?} at {}: {source}", .target.display())]
    Mount { kind: String, from: String, target: PathBuf, source: io::Error },
    #[error("unmount {}: {source}", .path.display())]
    Unmount { path: PathBuf, source: io::Error },
    /// A path of the bundle could not be looked at, made or removed.
    #[error("use {}: {source}", .path.display())]
    Path { path: PathBuf, source: io::Error },
}

impl RootfsError {
    /// What is quoted of a request in an error: enough to find it there.
    const QUOTED: usize = 128;

    pub(super) fn invalid(what: &'static str, value: &str, why: &'static str) -> RootfsError {
        RootfsError::Invalid { what, value: value.chars().take(Self::QUOTED).collect(), why }
    }

    pub(super) fn path(path: &Path, source: io::Error) -> RootfsError {
        RootfsError::Path { path: path.to_owned(), source }
    }
}
