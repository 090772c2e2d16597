//! What was done to put a root file system together, and its undoing.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use tracing::warn;

use super::RootfsError;
use crate::sys::mount::{leads_out, unmount, Place, Unmounted};
use crate::sys::mountinfo::mounts_below;

/// The mounts and directories of one container, in the order they were made. Dropping it undoes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembled {
    bundle: PathBuf,
    done: Vec<Done>,
}

/// Paths are those from the bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Done {
    /// Directories on one path: the last `levels` of it. Each by its own path would take memory that grows with the
    /// square of the depth.
    Made {
        path: PathBuf,
        levels: usize,
    },
    Mounted(PathBuf),
}

impl Assembled {
    pub(super) fn new(bundle: PathBuf) -> Assembled {
        Assembled { bundle, done: Vec::new() }
    }

    /// A directory in a file system that is mounted here belongs to that file system, and stays in it.
    pub(super) fn made(&mut self, directory: PathBuf) {
        let holds = |done: &Done| matches!(done, Done::Mounted(point) if directory.starts_with(point));
        if self.done.iter().any(holds) {
            return;
        }
        match self.done.last_mut() {
            Some(Done::Made { path, levels }) if directory.parent() == Some(path) => {
                *path = directory;
                *levels += 1;
            }
            _ => self.done.push(Done::Made { path: directory, levels: 1 }),
        }
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
        let root = match Place::open(&self.bundle) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            opened => opened.map_err(|source| RootfsError::path(&self.bundle, source))?,
        };
        let mut first = self.unmount_below();
        for done in self.done.iter().rev() {
            let undone = match done {
                Done::Mounted(path) => self.unmount_one(&root, path),
                Done::Made { path, levels } => {
                    let levels = path.ancestors().take(*levels);
                    levels.map(|path| self.remove_if_empty(&root, path)).fold(Ok(()), Result::and)
                }
            };
            first = first.and(undone);
        }
        first
    }

    /// If nothing was mounted at the rootfs then neither is what lies below it ours.
    fn unmount_below(&self) -> Result<(), RootfsError> {
        if !self.done.contains(&Done::Mounted("rootfs".into())) {
            return Ok(());
        }
        let rootfs = self.bundle.join("rootfs");
        let below = mounts_below(&rootfs).map_err(|source| RootfsError::path(&rootfs, source))?;
        below.iter().map(|path| unmount_at(path, path)).fold(Ok(()), Result::and)
    }

    fn unmount_one(&self, root: &Place, inside: &Path) -> Result<(), RootfsError> {
        let path = self.bundle.join(inside);
        match parent(root, inside) {
            Ok(parent) => unmount_at(&parent.handle().join(name(inside)), &path),
            Err(error) => gone(&path, error),
        }
    }

    /// A directory that is not empty holds what somebody else put there, and stays. So does what is no directory now.
    fn remove_if_empty(&self, root: &Place, inside: &Path) -> Result<(), RootfsError> {
        let removed =
            parent(root, inside).and_then(|parent| fs::remove_dir(parent.handle().join(name(inside))));
        match removed {
            Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::NotADirectory) => {
                Ok(())
            }
            Err(error) => gone(&self.bundle.join(inside), error),
            Ok(()) => Ok(()),
        }
    }
}

/// The directory that holds `inside`, by which it is reached: the container has had its hands in the bundle, and where
/// a directory was there may be a symlink now.
fn parent(root: &Place, inside: &Path) -> io::Result<Place> {
    root.beneath(inside.parent().unwrap_or(Path::new("")))
}

fn name(inside: &Path) -> &OsStr {
    inside.file_name().unwrap_or_default()
}

/// What has gone needs no undoing. What was replaced is no longer ours, and no container is to hold up its own Delete.
fn gone(path: &Path, error: io::Error) -> Result<(), RootfsError> {
    if leads_out(&error) {
        warn!(path = %path.display(), "not undone: a symlink was put in its way");
    } else if error.kind() != ErrorKind::NotFound {
        return Err(RootfsError::path(path, error));
    }
    Ok(())
}

/// `path` is for people.
fn unmount_at(place: &Path, path: &Path) -> Result<(), RootfsError> {
    match unmount(place) {
        Ok(Unmounted::Detached) => warn!(path = %path.display(), "mount was busy and is detached"),
        Ok(Unmounted::Yes | Unmounted::Nothing) => {}
        Err(source) => return Err(RootfsError::Unmount { path: path.to_owned(), source }),
    }
    Ok(())
}
