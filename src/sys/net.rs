//! Network interfaces, as far as the old ioctls of netdevice(7) go.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::sys::socket::{socket, AddressFamily, SockFlag, SockType};

/// Brings an interface up, leaving its other flags alone. `name` is shorter than IFNAMSIZ.
pub fn bring_up(name: &str) -> io::Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut request = request_for(name)?;
    interface_ioctl(&socket, libc::SIOCGIFFLAGS, &mut request)?;
    // SAFETY: SIOCGIFFLAGS has filled in this member of the union.
    unsafe { request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short };
    interface_ioctl(&socket, libc::SIOCSIFFLAGS, &mut request)
}

fn request_for(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all members of ifreq are plain numbers and addresses, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

fn interface_ioctl(socket: &impl AsFd, what: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
    // The type of a request number is libc's choice: signed in musl, unsigned in glibc.
    // SAFETY: the interface ioctls read and write one ifreq, which `request` is, for the length of the call.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), what as libc::Ioctl, request) };
    nix::errno::Errno::result(result)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::sys::testing::in_private_network;

    #[test]
    fn the_loopback_carries_data_once_it_is_up() {
        in_private_network(|| {
            let socket = || UdpSocket::bind("0.0.0.0:0")?.send_to(b"x", "127.0.0.1:9");
            assert!(socket().is_err());
            bring_up("lo").unwrap();
            assert_eq!(socket().unwrap(), 1);
        });
    }

    #[test]
    fn an_interface_that_is_not_there_or_cannot_be_is_an_error() {
        assert_eq!(bring_up("no-such0").unwrap_err().raw_os_error(), Some(libc::ENODEV));
        assert_eq!(bring_up("longer-than-any-name").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
