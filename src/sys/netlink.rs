//! The route netlink socket of the kernel (rtnetlink(7)): datagrams to it and from it. What is in them is `net`'s.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::socket::{
    bind, send, socket, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType,
};

/// Room for what the kernel sends in one datagram: it never makes more of a dump than 32 KiB
/// (net/netlink/af_netlink.c, `netlink_dump`).
pub const DATAGRAM_MAX: usize = 32 << 10;

/// The group that is told of links that come, change and go (linux/rtnetlink.h, RTNLGRP_LINK, as a bit).
const GROUP_LINK: u32 = libc::RTMGRP_LINK as u32;

/// How long an answer is waited for. The kernel gives it before a request is sent, or before the part before it has been
/// read; this is for one that found the queue full of what other processes had sent, and is lost.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// Datagrams of news that are thrown away at once. The queue holds some hundred; more are somebody's flood.
const NEWS_MAX: usize = 4096;

/// The netlink port of the kernel. A process that may, a container's too, can send to any port (netlink(7)).
const KERNEL: u32 = 0;

/// Options of the socket (linux/netlink.h).
const NETLINK_CAP_ACK: libc::c_int = 10;
const NETLINK_EXT_ACK: libc::c_int = 11;

/// A socket to the kernel's tables of links, addresses, routes and neighbours.
pub struct RouteSocket(OwnedFd);

impl RouteSocket {
    /// For requests and their answers.
    ///
    /// # Errors
    /// Those of socket(2) and setsockopt(2).
    pub fn new() -> io::Result<RouteSocket> {
        let socket = RouteSocket(open()?);
        // Refusals come with a sentence that says why, and without the request that they refuse (netlink(7)).
        socket.enable(NETLINK_EXT_ACK)?;
        socket.enable(NETLINK_CAP_ACK)?;
        Ok(socket)
    }

    /// For news of links.
    ///
    /// # Errors
    /// Those of socket(2) and bind(2).
    pub fn of_links() -> io::Result<RouteSocket> {
        let fd = open()?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, GROUP_LINK))?;
        Ok(RouteSocket(fd))
    }

    /// Sends one datagram to the kernel.
    ///
    /// # Errors
    /// Those of send(2).
    pub fn send(&self, datagram: &[u8]) -> io::Result<()> {
        // A socket that is not connected sends to port 0, the kernel.
        let sent = send(self.0.as_raw_fd(), datagram, MsgFlags::empty())?;
        if sent == datagram.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }

    /// The next datagram of the kernel's; those that other processes send are passed over. Blocks for as long as it takes
    /// to get the kernel's lock of the network, and for an answer that was lost for 2 s.
    ///
    /// # Errors
    /// Those of recv(2), among them `ENOBUFS` if the queue had no room; `InvalidData` for a datagram that has no room in
    /// `buffer`; `TimedOut` if there is none. After an error this socket is good for nothing: an answer may be missing.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let deadline = Instant::now() + ANSWER_WAIT;
        loop {
            // With MSG_TRUNC the true length is returned.
            match self.next(buffer, libc::MSG_DONTWAIT | libc::MSG_TRUNC) {
                Ok((_, sender)) if sender != KERNEL && Instant::now() < deadline => continue,
                Ok((_, sender)) if sender != KERNEL => return Err(io::ErrorKind::TimedOut.into()),
                Ok((length, _)) if length > buffer.len() => return Err(io::ErrorKind::InvalidData.into()),
                Ok((length, _)) => return Ok(length),
                Err(Errno::EAGAIN) if self.is_readable_by(deadline)? => continue,
                Err(Errno::EAGAIN) => return Err(io::ErrorKind::TimedOut.into()),
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for news until `deadline`; whether some came before it. All of it is thrown away: only that there are some
    /// counts. Whoever makes news without end holds nobody up beyond the deadline.
    ///
    /// # Errors
    /// Those of poll(2).
    pub fn wait_for_news(&self, deadline: Instant) -> io::Result<bool> {
        let came = Instant::now() < deadline && self.is_readable_by(deadline)?;
        if came {
            self.discard();
        }
        Ok(came)
    }

    fn is_readable_by(&self, deadline: Instant) -> io::Result<bool> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up, so that it does not spin through the last millisecond.
            let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
            let timeout = if left.is_zero() { PollTimeout::ZERO } else { timeout };
            match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(0) if Instant::now() >= deadline => return Ok(false),
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes what has come. That news were lost (ENOBUFS) is said once, and is news.
    fn discard(&self) {
        for _ in 0..NEWS_MAX {
            match self.next(&mut [], libc::MSG_DONTWAIT | libc::MSG_TRUNC) {
                Ok(_) | Err(Errno::ENOBUFS | Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }

    /// The length of the next datagram, and the port of who sent it.
    fn next(&self, buffer: &mut [u8], flags: libc::c_int) -> Result<(usize, u32), Errno> {
        // SAFETY: all members of sockaddr_nl are plain numbers, for which zero is a value.
        let mut from: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        let mut size = size_of_val(&from) as libc::socklen_t;
        // SAFETY: the kernel writes at most as much to the buffer and the address as their lengths say.
        let received = unsafe {
            libc::recvfrom(
                self.0.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                flags,
                (&raw mut from).cast(),
                &raw mut size,
            )
        };
        Ok((Errno::result(received)? as usize, from.nl_pid))
    }

    fn enable(&self, option: libc::c_int) -> io::Result<()> {
        let on: libc::c_int = 1;
        let length = size_of_val(&on) as libc::socklen_t;
        // SAFETY: the option takes an int, which `on` is, for the length of the call.
        let result = unsafe {
            libc::setsockopt(self.0.as_raw_fd(), libc::SOL_NETLINK, option, (&raw const on).cast(), length)
        };
        Errno::result(result)?;
        Ok(())
    }
}

fn open() -> io::Result<OwnedFd> {
    let protocol = SockProtocol::NetlinkRoute;
    Ok(socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?)
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{getsockname, sendto};

    use super::*;
    use crate::sys::testing::in_private_network;

    /// A request for all links: `struct nlmsghdr` of type RTM_GETLINK, with `struct ifinfomsg` behind it.
    fn dump_links(sequence: u32) -> [u8; 32] {
        let mut request = [0; 32];
        request[0..4].copy_from_slice(&32_u32.to_ne_bytes());
        request[4..6].copy_from_slice(&18_u16.to_ne_bytes());
        request[6..8].copy_from_slice(&0x301_u16.to_ne_bytes());
        request[8..12].copy_from_slice(&sequence.to_ne_bytes());
        request
    }

    /// A socket that has had an answer, another process's, and where that one reaches the first.
    fn socket_and_forger(buffer: &mut [u8]) -> (RouteSocket, RouteSocket, NetlinkAddr) {
        let (socket, forger) = (RouteSocket::new().unwrap(), RouteSocket::new().unwrap());
        socket.send(&dump_links(1)).unwrap();
        while socket.receive(buffer).unwrap() > 20 {}
        let port = getsockname::<NetlinkAddr>(socket.0.as_raw_fd()).unwrap().pid();
        (socket, forger, NetlinkAddr::new(port, 0))
    }

    #[test]
    fn what_another_process_sends_is_not_taken_for_the_kernels() {
        in_private_network(|| {
            let mut buffer = vec![0; DATAGRAM_MAX];
            let (socket, forger, to) = socket_and_forger(&mut buffer);
            sendto(forger.0.as_raw_fd(), &dump_links(2), &to, MsgFlags::empty()).unwrap();
            socket.send(&dump_links(3)).unwrap();
            socket.receive(&mut buffer).unwrap();
            assert_eq!(buffer[8..12], 3_u32.to_ne_bytes());
        });
    }

    #[test]
    fn an_answer_that_found_no_room_is_waited_for_no_longer_than_its_bound() {
        in_private_network(|| {
            let mut buffer = vec![0; DATAGRAM_MAX];
            let (socket, forger, to) = socket_and_forger(&mut buffer);
            // Smaller and smaller, until there is no room for an answer of 36 bytes.
            for size in [4096, 256, 16, 1] {
                let forged = vec![0; size];
                while sendto(forger.0.as_raw_fd(), &forged, &to, MsgFlags::MSG_DONTWAIT).is_ok() {}
            }
            // A change of nothing, RTM_NEWLINK with NLM_F_ACK.
            let mut change = dump_links(2);
            change[4..8].copy_from_slice(&[16_u16.to_ne_bytes(), 5_u16.to_ne_bytes()].concat());
            change[20..24].copy_from_slice(&1_u32.to_ne_bytes());
            socket.send(&change).unwrap();
            let full = socket.receive(&mut buffer).unwrap_err();
            assert_eq!(full.raw_os_error(), Some(libc::ENOBUFS));
            // That is said once.
            socket.send(&change).unwrap();
            assert_eq!(socket.receive(&mut buffer).unwrap_err().kind(), io::ErrorKind::TimedOut);
        });
    }

    #[test]
    fn news_do_not_put_off_the_deadline() {
        in_private_network(|| {
            let news = RouteSocket::of_links().unwrap();
            crate::sys::net::bring_up("lo").unwrap();
            assert!(!news.wait_for_news(Instant::now()).unwrap());
        });
    }

    #[test]
    fn there_are_no_news_of_links_until_one_changes() {
        in_private_network(|| {
            let news = RouteSocket::of_links().unwrap();
            assert!(!news.wait_for_news(Instant::now()).unwrap());
            crate::sys::net::bring_up("lo").unwrap();
            assert!(news.wait_for_news(Instant::now() + Duration::from_secs(20)).unwrap());
            assert!(!news.wait_for_news(Instant::now()).unwrap());
        });
    }
}
