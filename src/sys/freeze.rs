//! Freezing file systems (linux/fs.h): until it is thawed, who writes to one waits, and what is on its disk is whole.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Freezes the file system that `within` is in: writes what is dirty to the disk, and holds up all further writes.
/// Blocks until the disk has taken everything.
///
/// # Errors
/// `EBUSY` if it is frozen already, whoever did it; `EOPNOTSUPP` if this kind cannot be frozen.
pub fn freeze(within: impl AsFd) -> io::Result<()> {
    // SAFETY: the descriptor is open, and the kernel does not look at the argument (ioctl_fsfreeze in fs/ioctl.c).
    unsafe { ioctl::freeze(within.as_fd().as_raw_fd(), &mut 0) }?;
    Ok(())
}

/// Undoes [`freeze`]; those who wait to write go on. It may write to the disk, and then blocks for as long.
///
/// # Errors
/// `EINVAL` if it is not frozen.
pub fn thaw(within: impl AsFd) -> io::Result<()> {
    // SAFETY: as above.
    unsafe { ioctl::thaw(within.as_fd().as_raw_fd(), &mut 0) }?;
    Ok(())
}

mod ioctl {
    // FIFREEZE and FITHAW.
    nix::ioctl_readwrite!(freeze, b'X', 119, libc::c_int);
    nix::ioctl_readwrite!(thaw, b'X', 120, libc::c_int);
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn what_cannot_be_frozen_is_an_error() {
        let proc = File::open("/proc").unwrap();
        assert!(freeze(&proc).is_err());
        assert!(thaw(&proc).is_err());
    }
}
