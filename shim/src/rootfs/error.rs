//! Why a container does not get its files.

use std::io;
use std::path::{Path, PathBuf};

use crate::plan::Refusal;

/// Why nothing was staged, or something is still mounted.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// What a volume turned out to be when it was opened. A whole sentence, as all refusals.
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("{step}: {source}")]
    Namespace { step: &'static str, source: io::Error },
    #[error("{step} {path}: {source}", path = .path.display())]
    Step { step: &'static str, path: PathBuf, source: io::Error },
    #[error("mount the root's {kind} from {from}: {source}")]
    Mount { kind: String, from: String, source: io::Error },
    #[error("mount a root of type {0:?}: it is neither one that the host mounts nor one of a disk image")]
    MountType(String),
    #[error("mount the root with the option {0:?}: it is not supported in a microVM")]
    MountOption(String),
    /// Mounts with templates and images are put together by the guest, which does not see what the host mounts.
    #[error("mount a root of both the host's {host:?} and the guest's {guest:?}")]
    Mixed { host: String, guest: String },
    #[error("mount the root's {kind} in the guest: {path} is on the host")]
    HostPath { kind: String, path: String },
    /// An overlay writes to two folders of one mount.
    #[error("mount the root with {one} and {other} to write to: they are not in one folder", one = .one.display(),
        other = .other.display())]
    Apart { one: PathBuf, other: PathBuf },
    #[error("make a disk of {path}: it is neither a file nor a block device", path = .0.display())]
    NoImage(PathBuf),
    /// mount(2) takes a page.
    #[error("mount the root: its options of {0} bytes are too long")]
    OptionsTooLong(usize),
}

/// For `map_err`: what was about to be done, and with what.
pub(super) fn step<E: Into<io::Error>>(step: &'static str, path: &Path) -> impl FnOnce(E) -> RootfsError {
    let path = path.to_owned();
    move |source| RootfsError::Step { step, path, source: source.into() }
}
