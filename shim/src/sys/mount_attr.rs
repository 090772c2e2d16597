//! Attributes of mounts. Has the `unsafe` of mount_setattr(2); decides nothing.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What becomes of a mount; nothing of it is taken away.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MountAttr {
    /// `MOUNT_ATTR_*` of mount_setattr(2), besides those that it has.
    pub(crate) set: u64,
    /// One of `MS_SHARED`, `MS_PRIVATE` and `MS_SLAVE`, or 0 for what it is.
    pub(crate) propagation: u64,
    /// Whether the same becomes of all mounts beneath it.
    pub(crate) recursive: bool,
}

/// Changes the mount whose root `mount` is. Linux 5.12 has the call.
///
/// # Errors
/// As of mount_setattr(2); with `recursive`, none of the mounts is changed then.
pub(crate) fn set_mount_attr(mount: BorrowedFd<'_>, attr: MountAttr) -> io::Result<()> {
    let recursive = if attr.recursive { libc::AT_RECURSIVE } else { 0 };
    let change =
        libc::mount_attr { attr_set: attr.set, attr_clr: 0, propagation: attr.propagation, userns_fd: 0 };
    // SAFETY: the descriptor is open, the path is a string, and the kernel reads `change`, whose size it is told,
    // within this call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw const change,
            size_of::<libc::mount_attr>(),
        )
    };
    nix::errno::Errno::result(answer)?;
    Ok(())
}
