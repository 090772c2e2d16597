//! The kernel's tables of links, addresses, routes and neighbours: read whole, changed one entry at a time. It owns the
//! talk with the kernel; `entry` knows what an entry looks like.

use std::io;

use super::entry::{
    address, address_request, link, link_header, neighbour, neighbour_request, route, route_request,
    settled_address, settled_route, Address, AddressState, Link, Neighbour, Route, IFF_UP, IFLA_IFNAME,
    IFLA_MTU,
};
#[cfg(test)]
use super::entry::{IFLA_INFO_KIND, IFLA_LINKINFO};
use super::message::{
    messages, Malformed, Message, Request, NLMSG_DONE, NLMSG_ERROR, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP,
    NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REPLACE,
};
use super::types::LinkName;
use crate::sys::netlink::{RouteSocket, DATAGRAM_MAX};

/// Types of messages (linux/rtnetlink.h).
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;

/// How often a table is read again that changed while it was read. Its last reading is then taken.
const DUMP_TRIES: usize = 4;
/// Entries of one table, links to routes: more than any guest has, and some MiB in memory.
const ENTRIES_MAX: usize = 16_384;

/// Why the kernel's tables could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The kernel does not do it.
    #[error("{}{}", io::Error::from_raw_os_error(*errno), said(text))]
    Refused { errno: i32, text: Option<String> },
    #[error("netlink")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the table has more than {ENTRIES_MAX} entries")]
    TooMany,
}

fn said(text: &Option<String>) -> String {
    text.as_ref().map(|text| format!(": {text}")).unwrap_or_default()
}

/// A connection to the kernel.
pub struct Kernel {
    socket: RouteSocket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Kernel {
    /// # Errors
    /// Those of socket(2).
    pub fn open() -> io::Result<Kernel> {
        Ok(Kernel { socket: RouteSocket::new()?, sequence: 0, buffer: vec![0; DATAGRAM_MAX] })
    }

    // Every reading below is of a whole table, and blocks for as long as another holds the kernel's lock of the network.

    pub fn links(&mut self) -> Result<Vec<Link>, KernelError> {
        self.dump(RTM_GETLINK, &[0; 16], link)
    }

    pub fn addresses(&mut self) -> Result<Vec<AddressState>, KernelError> {
        self.dump(RTM_GETADDR, &[0; 8], address)
    }

    pub fn routes(&mut self) -> Result<Vec<Route>, KernelError> {
        self.dump(RTM_GETROUTE, &[0; 12], route)
    }

    /// The addresses and routes of a link that somebody has set for good, without those that come again by themselves: from
    /// the kernel, or from a router.
    pub fn settled(&mut self, link: u32) -> Result<(Vec<Address>, Vec<Route>), KernelError> {
        let mut addresses = self.dump(RTM_GETADDR, &[0; 8], settled_address)?;
        addresses.retain(|address| address.link == link);
        let mut routes = self.dump(RTM_GETROUTE, &[0; 12], settled_route)?;
        routes.retain(|route| route.link == link);
        Ok((addresses, routes))
    }

    /// The fixed ones.
    pub fn neighbours(&mut self) -> Result<Vec<Neighbour>, KernelError> {
        self.dump(RTM_GETNEIGH, &[0; 12], neighbour)
    }

    // Each of the changes below is refused with what the kernel says, such as EEXIST or ENODEV.

    pub fn set_up(&mut self, link: u32, up: bool) -> Result<(), KernelError> {
        let flags = if up { IFF_UP } else { 0 };
        self.change(Request::new(RTM_NEWLINK, 0, &link_header(link, flags, IFF_UP)))
    }

    /// The link must be down.
    pub fn rename(&mut self, link: u32, name: &LinkName) -> Result<(), KernelError> {
        let mut text = name.as_str().as_bytes().to_vec();
        text.push(0);
        self.change(Request::new(RTM_NEWLINK, 0, &link_header(link, 0, 0)).with(IFLA_IFNAME, &text))
    }

    pub fn set_mtu(&mut self, link: u32, mtu: u32) -> Result<(), KernelError> {
        let request = Request::new(RTM_NEWLINK, 0, &link_header(link, 0, 0));
        self.change(request.with(IFLA_MTU, &mtu.to_ne_bytes()))
    }

    /// With `nodad` an IPv6 address may be used at once.
    pub fn add_address(&mut self, address: &Address, nodad: bool) -> Result<(), KernelError> {
        self.change(address_request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, address, nodad))
    }

    pub fn remove_address(&mut self, address: &Address) -> Result<(), KernelError> {
        self.change(address_request(RTM_DELADDR, 0, address, false))
    }

    pub fn add_route(&mut self, route: &Route) -> Result<(), KernelError> {
        self.change(route_request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, route))
    }

    pub fn remove_route(&mut self, route: &Route) -> Result<(), KernelError> {
        self.change(route_request(RTM_DELROUTE, 0, route))
    }

    /// One that the kernel has learnt is replaced.
    pub fn add_neighbour(&mut self, neighbour: &Neighbour) -> Result<(), KernelError> {
        self.change(neighbour_request(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, neighbour))
    }

    pub fn remove_neighbour(&mut self, neighbour: &Neighbour) -> Result<(), KernelError> {
        self.change(neighbour_request(RTM_DELNEIGH, 0, neighbour))
    }

    /// Adds an interface, for a test.
    #[cfg(test)]
    pub fn add_link(&mut self, name: &str, kind: &str, peer: &str) {
        use super::message::append_attribute;
        let mut of_peer = link_header(0, 0, 0).to_vec();
        append_attribute(&mut of_peer, IFLA_IFNAME, &[peer.as_bytes(), b"\0"].concat());
        let (mut data, mut info) = (Vec::new(), Vec::new());
        append_attribute(&mut data, 1, &of_peer); // VETH_INFO_PEER
        append_attribute(&mut info, IFLA_INFO_KIND, kind.as_bytes());
        if !peer.is_empty() {
            append_attribute(&mut info, 2, &data); // IFLA_INFO_DATA
        }
        let request = Request::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &link_header(0, 0, 0))
            .with(IFLA_IFNAME, &[name.as_bytes(), b"\0"].concat())
            .with(IFLA_LINKINFO, &info);
        self.change(request).unwrap();
    }

    /// Takes an interface away, for a test.
    #[cfg(test)]
    pub fn remove_link(&mut self, link: u32) {
        self.change(Request::new(17, 0, &link_header(link, 0, 0))).unwrap(); // RTM_DELLINK
    }

    fn change(&mut self, request: Request) -> Result<(), KernelError> {
        self.send(request.flagged(NLM_F_ACK))?;
        loop {
            let length = self.receive()?;
            for message in messages(&self.buffer[..length]) {
                let message = message?;
                if message.sequence == self.sequence && message.kind == NLMSG_ERROR {
                    return accepted(&message);
                }
            }
        }
    }

    /// Reads a table: what `read` makes of each entry, where it makes something of it.
    fn dump<T>(
        &mut self,
        kind: u16,
        fixed: &[u8],
        read: fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, KernelError> {
        let mut entries = Vec::new();
        let mut tries = 0;
        loop {
            tries += 1;
            entries.clear();
            let request = Request::new(kind, NLM_F_DUMP, fixed);
            let whole = self.dump_once(request, &mut |body| entries.extend(read(body)))?;
            if whole || tries == DUMP_TRIES {
                return Ok(entries);
            }
        }
    }

    /// Hands over the entries, and says whether the table stayed as it was meanwhile.
    fn dump_once(&mut self, request: Request, entry: &mut dyn FnMut(&[u8])) -> Result<bool, KernelError> {
        self.send(request)?;
        let (mut count, mut whole) = (0, true);
        loop {
            let length = self.receive()?;
            for message in messages(&self.buffer[..length]) {
                let message = message?;
                if message.sequence != self.sequence {
                    continue;
                }
                whole &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.kind {
                    NLMSG_DONE | NLMSG_ERROR => return accepted(&message).map(|()| whole),
                    _ if count == ENTRIES_MAX => return Err(KernelError::TooMany),
                    _ => entry(message.body),
                }
                count += 1;
            }
        }
    }

    /// After an error the next request has a socket of its own: who has filled the queue of this one does not know it.
    fn receive(&mut self) -> io::Result<usize> {
        let received = self.socket.receive(&mut self.buffer);
        if received.is_err() {
            self.socket = RouteSocket::new()?;
        }
        received
    }

    fn send(&mut self, request: Request) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send(&request.numbered(self.sequence))
    }
}

fn accepted(message: &Message<'_>) -> Result<(), KernelError> {
    match message.verdict()? {
        (0, _) => Ok(()),
        (errno, text) => Err(KernelError::Refused { errno, text: text.map(str::to_owned) }),
    }
}
