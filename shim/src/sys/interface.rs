//! Interfaces of a network namespace, by ioctl. Has the `unsafe` of asking the kernel for them; decides nothing.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{socket, AddressFamily, SockFlag, SockType};

/// The loopback of every network namespace (`net/core/dev.c` gives it this name and the index 1).
const LOOPBACK: &str = "lo";
/// Where a tap comes from (Documentation/networking/tuntap.rst).
const TUN: &str = "/dev/net/tun";

/// Brings the loopback up in the network namespace of the calling thread, as runc does in one that it makes.
///
/// # Errors
/// As of socket(2) and of `SIOCSIFFLAGS` in netdevice(7): without CAP_NET_ADMIN in the namespace, `PermissionDenied`.
pub(crate) fn bring_up_loopback() -> io::Result<()> {
    let control = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let request = interface(LOOPBACK, libc::IFF_UP)?;
    // SAFETY: the descriptor is open, and the request is a whole `ifreq` which the kernel reads within this call.
    Errno::result(unsafe { libc::ioctl(control.as_raw_fd(), libc::SIOCSIFFLAGS, &request) })?;
    Ok(())
}

/// Makes a tap in the network namespace of the calling thread, whose frames come with a `virtio_net_hdr` of 10 bytes
/// before them. It goes when its last descriptor is closed, and is down until somebody brings it up.
///
/// # Errors
/// `InvalidInput` for a name of more than 15 bytes, `ResourceBusy` if the name is taken; as of open(2) if the host has
/// no `/dev/net/tun`.
pub(crate) fn make_tap(name: &str) -> io::Result<OwnedFd> {
    let tap = File::options().read(true).write(true).open(TUN)?;
    // Without IFF_TUN_EXCL a tap of somebody else's with this name would be taken over.
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_TUN_EXCL;
    let request = interface(name, flags)?;
    // SAFETY: the descriptor is open, and the request is a whole `ifreq` which the kernel uses within this call.
    Errno::result(unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETIFF, &request) })?;
    Ok(tap.into())
}

/// The request that sets these flags of this interface (netdevice(7)).
fn interface(name: &str, flags: libc::c_int) -> io::Result<libc::ifreq> {
    // Sixteen bits that the headers declare as an int; the uppermost is IFF_TUN_EXCL.
    let [low, high, ..] = flags.to_le_bytes();
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: libc::c_short::from_le_bytes([low, high]) },
    };
    if name.len() >= libc::IFNAMSIZ {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    Ok(request)
}
