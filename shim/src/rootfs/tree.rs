//! Copies of mounts that are not anywhere yet. They get their attributes while nobody sees them: a mount in the share
//! is read-only from its first moment, and no remount has to know the flags that its source had. Never decides what
//! they get.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{open, OFlag};
use nix::sys::stat::Mode;
use rustix::fs::CWD;
use rustix::mount::{move_mount, open_tree, MoveMountFlags, OpenTreeFlags};

use crate::sys::{set_mount_attr, MountAttr};

/// Gone when it is dropped, unless it was attached.
#[derive(Debug)]
pub(super) struct Tree(OwnedFd);

impl Tree {
    /// A copy of the mount that `source` is in, from there on; if `recursive`, with the mounts beneath.
    pub(super) fn copy(source: BorrowedFd<'_>, recursive: bool) -> io::Result<Tree> {
        let mut flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
        Ok(Tree(open_tree(source, "", flags)?))
    }

    pub(super) fn set(&self, attr: MountAttr) -> io::Result<()> {
        set_mount_attr(self.0.as_fd(), attr)
    }

    /// Makes it and all beneath it read-only. Nothing that is mounted there on the host from now on is seen: it could
    /// be written to.
    pub(super) fn seal(&self) -> io::Result<()> {
        self.set(MountAttr { set: libc::MOUNT_ATTR_RDONLY, propagation: libc::MS_PRIVATE, recursive: true })
    }

    /// Mounts it on a path of ours.
    pub(super) fn attach(self, path: &Path) -> io::Result<()> {
        Ok(move_mount(self.0, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
    }

    /// Mounts it on what was opened.
    pub(super) fn attach_to(self, place: BorrowedFd<'_>) -> io::Result<()> {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        Ok(move_mount(self.0, "", place, "", flags)?)
    }
}

/// Opens a place without the right to read or write it, which has no effect on what is there (open(2), O_PATH).
pub(super) fn open_place(path: &Path) -> io::Result<File> {
    Ok(open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?.into())
}
