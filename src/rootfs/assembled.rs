//! What was done to put a root file system together, and its undoing.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use tracing::warn;

use super::RootfsError;
use crate::sys::mount::{mounts_below, unmount, Unmounted};

/// The mounts and directories of one container, in the order they were made. Dropping it undoes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembled {
    rootfs: PathBuf,
    done: Vec<Done>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Done {
    Made(PathBuf),
    Mounted(PathBuf),
}

impl Assembled {
    pub(super) fn new(rootfs: PathBuf) -> Assembled {
        Assembled { rootfs, done: Vec::new() }
    }

    pub(super) fn made(&mut self, directory: PathBuf) {
        self.done.push(Done::Made(directory));
    }

    pub(super) fn mounted(&mut self, path: PathBuf) {
        self.done.push(Done::Mounted(path));
    }

    /// Undoes everything in reverse, and before that what others have mounted below the rootfs since.
    ///
    /// It goes on after a failure and returns the first. A mount that is busy is detached: its users keep it, the
    /// bundle is free. Directories go only when they are empty, so no file is ever removed. A second call finds
    /// nothing to do. Blocks.
    pub fn unwind(&self) -> Result<(), RootfsError> {
        let mut first = Ok(());
        let mut keep = |result: Result<(), RootfsError>| {
            if first.is_ok() {
                first = result;
            }
        };
        keep(self.unmount_below());
        for done in self.done.iter().rev() {
            keep(match done {
                Done::Mounted(path) => unmount_one(path),
                Done::Made(path) => remove_if_empty(path),
            });
        }
        first
    }

    /// If nothing was mounted at the rootfs then neither is what lies below it ours.
    fn unmount_below(&self) -> Result<(), RootfsError> {
        if !self.done.contains(&Done::Mounted(self.rootfs.clone())) {
            return Ok(());
        }
        let below = mounts_below(&self.rootfs).map_err(|source| RootfsError::path(&self.rootfs, source))?;
        below.iter().map(|path| unmount_one(path)).fold(Ok(()), Result::and)
    }
}

fn unmount_one(path: &Path) -> Result<(), RootfsError> {
    match unmount(path) {
        Ok(Unmounted::Detached) => warn!(path = %path.display(), "mount was busy and is detached"),
        Ok(Unmounted::Yes | Unmounted::Nothing) => {}
        Err(source) => return Err(RootfsError::Unmount { path: path.to_owned(), source }),
    }
    Ok(())
}

/// A directory that is not empty holds what somebody else put there, and stays.
fn remove_if_empty(path: &Path) -> Result<(), RootfsError> {
    match fs::remove_dir(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => Ok(()),
        result => result.map_err(|source| RootfsError::path(path, source)),
    }
}
