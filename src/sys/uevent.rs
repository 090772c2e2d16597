//! What the kernel says of its devices (netlink(7), NETLINK_KOBJECT_UEVENT). What others say in its name is not heard,
//! and nothing is read of a message but what it is about.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::cmsg_space;
use nix::sys::socket::{
    bind, recvmsg, setsockopt, socket, sockopt, AddressFamily, ControlMessageOwned, MsgFlags, NetlinkAddr,
    SockFlag, SockProtocol, SockType, UnixCredentials,
};
use tokio::io::unix::AsyncFd;
use tokio::io::Interest;

/// The multicast group of the kernel's own messages (`kobject_uevent_net_broadcast` in Linux, lib/kobject_uevent.c);
/// the next one is udev's.
const KERNEL_GROUP: u32 = 1;

/// Room for a message: its fields take 2,048 bytes at most (UEVENT_BUFFER_SIZE in Linux, include/linux/kobject.h), and
/// the path of a device stands before them once more. Of a longer one the end is lost, and no more.
const MESSAGE_BYTES: usize = 4096;

/// A subscription to the kernel's messages, from its making on. The kernel keeps some hundred until they are read.
#[derive(Debug)]
pub struct Uevents(AsyncFd<OwnedFd>);

impl Uevents {
    /// Needs a tokio runtime; does not block.
    ///
    /// # Errors
    /// Those of socket(2) and bind(2): a sandbox may forbid it.
    pub fn subscribe() -> io::Result<Uevents> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let protocol = SockProtocol::NetlinkKObjectUEvent;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        // Before the first message can come, as each bears what was asked for by then.
        setsockopt(&socket, sockopt::PassCred, &true)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, KERNEL_GROUP))?;
        // SAFETY: the descriptor is owned by the `AsyncFd`, stays open as long as it, and is never replaced.
        let registered = unsafe { AsyncFd::register(socket) };
        Ok(Uevents(registered.map_err(|error| error.into_parts().1)?))
    }

    /// Waits until the kernel has told of a device of this subsystem, such as `block`, or may have: it says so when
    /// messages were lost. Cancel safe.
    ///
    /// # Errors
    /// Those of recvmsg(2).
    pub async fn tell_of(&self, subsystem: &str) -> io::Result<()> {
        // One message for each turn of the runtime's budget: whoever floods the group holds up nobody.
        loop {
            match self.0.async_io(Interest::READABLE, |socket| receive(socket, subsystem)).await {
                Ok(false) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(()),
                told => return told.map(drop),
            }
        }
    }
}

/// Takes one message, and says whether it is the kernel's and about `subsystem`.
///
/// A process with CAP_NET_ADMIN can send to the group: its port is then not 0. One with CAP_SYS_ADMIN can have the
/// kernel send for it, from port 0 (`uevent_net_broadcast` in lib/kobject_uevent.c): its pid is then not 0.
fn receive(socket: &OwnedFd, subsystem: &str) -> io::Result<bool> {
    let mut bytes = [0; MESSAGE_BYTES];
    let mut control = cmsg_space!(UnixCredentials);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let received =
        recvmsg::<NetlinkAddr>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
    let from_port_0 = received.address.is_some_and(|address| address.pid() == 0);
    let of_pid_0 = |part| matches!(part, ControlMessageOwned::ScmCredentials(sender) if sender.pid() == 0);
    let is_the_kernels = from_port_0 && received.cmsgs()?.any(of_pid_0);
    let length = received.bytes;
    Ok(is_the_kernels && bytes.get(..length).is_some_and(|message| is_about(message, subsystem)))
}

/// A message is a summary and then fields `KEY=value`, each of them ended by a NUL.
fn is_about(message: &[u8], subsystem: &str) -> bool {
    let names = |field: &[u8]| field.strip_prefix(b"SUBSYSTEM=") == Some(subsystem.as_bytes());
    message.split(|byte| *byte == 0).skip(1).any(names)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use nix::sys::socket::sendto;
    use tokio::time::timeout;

    use super::*;
    use crate::sys::testing::in_private_network;

    const LONG: Duration = Duration::from_secs(30);
    /// About a subsystem that the kernel has no word of, as other tests make it speak at the same time.
    const FORGED: &[u8] = b"add@/devices/x/forged/vdz\0ACTION=add\0SUBSYSTEM=forged\0DEVNAME=vdz\0";

    /// Makes the kernel say that `/dev/null` has changed.
    fn change_null() {
        fs::write("/sys/class/mem/null/uevent", "change").unwrap();
    }

    fn on_runtime(body: impl std::future::Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(body);
    }

    fn forger() -> OwnedFd {
        let protocol = SockProtocol::NetlinkKObjectUEvent;
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).unwrap()
    }

    fn send_to(port: u32, group: u32, message: &[u8]) {
        let to = NetlinkAddr::new(port, group);
        sendto(forger().as_raw_fd(), message, &to, MsgFlags::empty()).unwrap();
    }

    /// What `uevent_net_rcv` of the kernel takes from those who may administer the system: a header and a message.
    fn as_request(message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(16 + message.len()).unwrap();
        let mut request = length.to_ne_bytes().to_vec();
        // A type of no meaning that is not one of netlink's own, and NLM_F_REQUEST; no number, no port.
        request.extend([0x10u16.to_ne_bytes(), 1u16.to_ne_bytes()].concat());
        request.extend([0; 8]);
        request.extend(message);
        request
    }

    #[test]
    fn the_kernel_is_heard_and_of_one_subsystem_alone() {
        in_private_network(|| {
            on_runtime(async {
                let uevents = Uevents::subscribe().unwrap();
                change_null();
                timeout(LONG, uevents.tell_of("mem")).await.unwrap().unwrap();
                change_null();
                let of_another = timeout(Duration::from_millis(50), uevents.tell_of("no-such")).await;
                assert!(of_another.is_err());
            });
        });
    }

    #[test]
    fn what_others_say_in_the_kernels_name_is_not_heard() {
        in_private_network(|| {
            on_runtime(async {
                let uevents = Uevents::subscribe().unwrap();
                send_to(0, KERNEL_GROUP, FORGED);
                send_to(0, 0, &as_request(FORGED));
                // Both are in the queue by now, and so a genuine one would be told of at once.
                let forged = timeout(Duration::from_millis(50), uevents.tell_of("forged")).await;
                assert!(forged.is_err());
                change_null();
                timeout(LONG, uevents.tell_of("mem")).await.unwrap().unwrap();
            });
        });
    }

    #[test]
    fn messages_that_were_lost_are_told_of() {
        in_private_network(|| {
            on_runtime(async {
                let uevents = Uevents::subscribe().unwrap();
                setsockopt(uevents.0.get_ref(), sockopt::RcvBuf, &0).unwrap();
                for _ in 0..64 {
                    change_null();
                }
                timeout(LONG, uevents.tell_of("no-such")).await.unwrap().unwrap();
            });
        });
    }

    #[test]
    fn a_message_is_about_the_subsystem_that_a_field_of_it_names() {
        let check = |message: &[u8], expected| assert_eq!(is_about(message, "block"), expected);
        check(b"add@/devices/vda\0ACTION=add\0SUBSYSTEM=block\0SEQNUM=7\0", true);
        check(b"add@/x\0SUBSYSTEM=blocks\0", false);
        check(b"add@/x\0XSUBSYSTEM=block\0", false);
        check(b"SUBSYSTEM=block", false);
        check(b"", false);
    }
}
