//! The loopback of a network namespace. Has the `unsafe` of asking the kernel for it; decides nothing.

use std::io;
use std::os::fd::AsRawFd;

use nix::sys::socket::{socket, AddressFamily, SockFlag, SockType};

/// The loopback of every network namespace (`net/core/dev.c` gives it this name and the index 1).
const LOOPBACK: &[u8] = b"lo";

/// Brings the loopback up in the network namespace of the calling thread, as runc does in one that it makes.
///
/// # Errors
/// As of socket(2) and of `SIOCSIFFLAGS` in netdevice(7): without CAP_NET_ADMIN in the namespace, `PermissionDenied`.
pub(crate) fn bring_up_loopback() -> io::Result<()> {
    let control = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let up = libc::c_short::try_from(libc::IFF_UP).expect("the flag is 1");
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: up },
    };
    for (to, from) in request.ifr_name.iter_mut().zip(LOOPBACK) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    // SAFETY: the descriptor is open, and the request is a whole `ifreq` which the kernel reads within this call.
    let answer = unsafe { libc::ioctl(control.as_raw_fd(), libc::SIOCSIFFLAGS, &request) };
    nix::errno::Errno::result(answer)?;
    Ok(())
}
