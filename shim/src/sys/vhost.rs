//! The host's own vsock device of one machine, `/dev/vhost-vsock`. Has the `unsafe` of giving it an address; chooses none.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

mod kernel {
    //! Linux, include/uapi/linux/vhost.h: VHOST_VIRTIO and VHOST_VSOCK_SET_GUEST_CID.
    nix::ioctl_write_ptr!(set_guest_cid, 0xAF, 0x60, u64);
}

/// Takes an address for the machine that `device` is to be of, until that is closed. It may be given again by whoever
/// has it then (Linux, drivers/vhost/vsock.c, vhost_vsock_set_cid).
///
/// # Errors
/// `AddrInUse`: another machine has it. What the kernel says if `device` is none of vsock.
pub(crate) fn take_guest_cid(device: BorrowedFd<'_>, cid: u32) -> io::Result<()> {
    let cid = u64::from(cid);
    // SAFETY: the kernel reads eight bytes from the pointer, which is that of a `u64` that outlives the call.
    unsafe { kernel::set_guest_cid(device.as_raw_fd(), &cid) }?;
    Ok(())
}
