//! The entries of the kernel's tables of links, addresses, routes and neighbours: as values, and as bytes of netlink. It
//! never reads or writes a table, and never decides what an entry should be.

use std::net::IpAddr;

use super::message::{attribute, u16_at, u32_at, u64_at, Request};
use super::types::{address_of, octets, Mac, Prefix};

/// Attributes of links (linux/if_link.h).
const IFLA_ADDRESS: u16 = 1;
pub(super) const IFLA_IFNAME: u16 = 3;
pub(super) const IFLA_MTU: u16 = 4;
pub(super) const IFLA_LINKINFO: u16 = 18;
const IFLA_STATS64: u16 = 23;
pub(super) const IFLA_INFO_KIND: u16 = 1;
/// Flags of links (linux/if.h).
pub(super) const IFF_UP: u32 = 0x1;
const IFF_RUNNING: u32 = 0x40;

/// Attributes and flags of addresses (linux/if_addr.h).
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_F_NODAD: u8 = 0x02;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_TENTATIVE: u32 = 0x40;
const IFA_F_PERMANENT: u32 = 0x80;

/// Attributes and values of routes (linux/rtnetlink.h).
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_TABLE: u16 = 15;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_REDIRECT: u8 = 1;
const RTPROT_KERNEL: u8 = 2;
const RTPROT_STATIC: u8 = 4;
const RTPROT_RA: u8 = 9;
const RTN_UNICAST: u8 = 1;
const RTNH_F_ONLINK: u32 = 0x4;
const RTM_F_CLONED: u32 = 0x200;

/// Attributes and states of neighbours (linux/neighbour.h).
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_PERMANENT: u16 = 0x80;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// An interface as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// Not every kind has one of six bytes.
    pub mac: Option<Mac>,
    pub mtu: u32,
    pub up: bool,
    /// Up, and there is a carrier.
    pub running: bool,
    /// What made it, such as `veth`; empty for a device.
    pub kind: String,
    pub counters: Counters,
}

/// What went through an interface since it came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    pub rx_dropped: u64,
    pub tx_dropped: u64,
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    pub link: u32,
    pub prefix: Prefix,
}

/// The same as it is: duplicate detection may be under way, or have failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressState {
    pub address: Address,
    pub tentative: bool,
    pub dad_failed: bool,
}

/// A unicast route of the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    pub link: u32,
    pub destination: Prefix,
    pub gateway: Option<IpAddr>,
    pub source: Option<IpAddr>,
    /// As in linux/rtnetlink.h: 0 universe, 253 link, 254 host. Of IPv6 it is always 0.
    pub scope: u8,
    /// The kernel's 1024 stands for none in IPv6.
    pub metric: u32,
    /// The gateway is taken to be on the link, whatever its address.
    pub on_link: bool,
}

/// A fixed entry of the table of neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    pub link: u32,
    pub address: IpAddr,
    pub mac: Mac,
}

fn family(address: &IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    }
}

/// `struct ifinfomsg`: family u8, padding u8, type u16, index i32, flags u32, mask of the flags that are to change u32.
pub(super) fn link_header(link: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&link.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

pub(super) fn link(body: &[u8]) -> Option<Link> {
    let flags = u32_at(body, 8)?;
    let attributes = body.get(16..)?;
    let text = |value: &[u8]| String::from_utf8_lossy(value).trim_end_matches('\0').to_owned();
    let info = attribute(attributes, IFLA_LINKINFO).unwrap_or_default();
    Some(Link {
        index: u32_at(body, 4)?,
        name: text(attribute(attributes, IFLA_IFNAME)?),
        mac: attribute(attributes, IFLA_ADDRESS).and_then(|value| value.try_into().ok()).map(Mac),
        mtu: attribute(attributes, IFLA_MTU).and_then(|value| u32_at(value, 0)).unwrap_or(0),
        up: flags & IFF_UP != 0,
        running: flags & IFF_RUNNING != 0,
        kind: attribute(info, IFLA_INFO_KIND).map(text).unwrap_or_default(),
        counters: attribute(attributes, IFLA_STATS64).map(counters).unwrap_or_default(),
    })
}

/// The beginning of `struct rtnl_link_stats64`.
fn counters(value: &[u8]) -> Counters {
    let number = |place: usize| u64_at(value, place * 8).unwrap_or(0);
    Counters {
        rx_packets: number(0),
        tx_packets: number(1),
        rx_bytes: number(2),
        tx_bytes: number(3),
        rx_errors: number(4),
        tx_errors: number(5),
        rx_dropped: number(6),
        tx_dropped: number(7),
    }
}

/// `struct ifaddrmsg`: family, prefix length, flags, scope, all u8, index u32.
pub(super) fn address_request(kind: u16, flags: u16, address: &Address, nodad: bool) -> Request {
    let Address { link, prefix } = address;
    let own = octets(&prefix.address);
    let flag = if nodad && prefix.is_ipv6() { IFA_F_NODAD } else { 0 };
    let mut header = [family(&prefix.address), prefix.length(), flag, 0, 0, 0, 0, 0];
    header[4..8].copy_from_slice(&link.to_ne_bytes());
    let request = Request::new(kind, flags, &header).with(IFA_LOCAL, &own).with(IFA_ADDRESS, &own);
    match prefix.is_ipv6() || prefix.length() > 30 {
        true => request,
        false => request.with(IFA_BROADCAST, &octets(&prefix.last())),
    }
}

pub(super) fn address(body: &[u8]) -> Option<AddressState> {
    let attributes = body.get(8..)?;
    // Of the two ends of a point-to-point link the local one counts; else there is only one.
    let octets = attribute(attributes, IFA_LOCAL).or_else(|| attribute(attributes, IFA_ADDRESS))?;
    let flags = address_flags(body)?;
    let prefix = Prefix::new(address_of(octets)?, body[1])?;
    Some(AddressState {
        address: Address { link: u32_at(body, 4)?, prefix },
        tentative: flags & IFA_F_TENTATIVE != 0,
        dad_failed: flags & IFA_F_DADFAILED != 0,
    })
}

fn address_flags(body: &[u8]) -> Option<u32> {
    let all = attribute(body.get(8..)?, IFA_FLAGS).and_then(|value| u32_at(value, 0));
    Some(all.unwrap_or_else(|| body[2].into()))
}

/// One without a lifetime.
pub(super) fn settled_address(body: &[u8]) -> Option<Address> {
    let is_permanent = address_flags(body)? & IFA_F_PERMANENT != 0;
    address(body).filter(|_| is_permanent).map(|found| found.address)
}

pub(super) fn settled_route(body: &[u8]) -> Option<Route> {
    let comes_again = matches!(body.get(5)?, &(RTPROT_REDIRECT | RTPROT_KERNEL | RTPROT_RA));
    route(body).filter(|_| !comes_again)
}

/// `struct rtmsg`: family, length of destination, length of source, TOS, table, protocol, scope, type, all u8, flags
/// u32.
pub(super) fn route_request(kind: u16, flags: u16, route: &Route) -> Request {
    let Route { link, destination, gateway, source, scope, metric, on_link } = route;
    let family = family(&destination.address);
    let mut header =
        [family, destination.length(), 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, *scope, RTN_UNICAST, 0, 0, 0, 0];
    let on_link = if *on_link { RTNH_F_ONLINK } else { 0 };
    header[8..12].copy_from_slice(&on_link.to_ne_bytes());
    let mut request = Request::new(kind, flags, &header).with(RTA_OIF, &link.to_ne_bytes());
    if destination.length() > 0 {
        request = request.with(RTA_DST, &octets(&destination.address));
    }
    if let Some(gateway) = gateway {
        request = request.with(RTA_GATEWAY, &octets(gateway));
    }
    if let Some(source) = source {
        request = request.with(RTA_PREFSRC, &octets(source));
    }
    match metric {
        0 => request,
        metric => request.with(RTA_PRIORITY, &metric.to_ne_bytes()),
    }
}

pub(super) fn route(body: &[u8]) -> Option<Route> {
    let attributes = body.get(12..)?;
    let number = |kind| attribute(attributes, kind).and_then(|value| u32_at(value, 0));
    let address = |kind| attribute(attributes, kind).and_then(address_of);
    let [family, length, _, _, table, _, scope, kind] = body[..8] else { return None };
    let flags = u32_at(body, 8)?;
    let table = number(RTA_TABLE).unwrap_or(table.into());
    // Clones are entries of the cache.
    if table != u32::from(RT_TABLE_MAIN) || kind != RTN_UNICAST || flags & RTM_F_CLONED != 0 {
        return None;
    }
    let any: IpAddr = match family {
        AF_INET => [0; 4].into(),
        AF_INET6 => [0; 16].into(),
        _ => return None,
    };
    Some(Route {
        // A route over several links at once has none of its own, and is nothing that can be set here.
        link: number(RTA_OIF)?,
        destination: Prefix::new(address(RTA_DST).unwrap_or(any), length)?,
        gateway: address(RTA_GATEWAY),
        source: address(RTA_PREFSRC),
        scope,
        metric: number(RTA_PRIORITY).unwrap_or(0),
        on_link: flags & RTNH_F_ONLINK != 0,
    })
}

/// `struct ndmsg`: family u8, padding of 3, index i32, state u16, flags u8, type u8.
pub(super) fn neighbour_request(kind: u16, flags: u16, neighbour: &Neighbour) -> Request {
    let Neighbour { link, address, mac } = neighbour;
    let mut header = [0; 12];
    header[0] = family(address);
    header[4..8].copy_from_slice(&link.to_ne_bytes());
    header[8..10].copy_from_slice(&NUD_PERMANENT.to_ne_bytes());
    Request::new(kind, flags, &header).with(NDA_DST, &octets(address)).with(NDA_LLADDR, &mac.0)
}

pub(super) fn neighbour(body: &[u8]) -> Option<Neighbour> {
    let attributes = body.get(12..)?;
    let permanent = u16_at(body, 8)? & NUD_PERMANENT != 0;
    let mac = attribute(attributes, NDA_LLADDR)?.try_into().ok().map(Mac)?;
    let address = address_of(attribute(attributes, NDA_DST)?)?;
    permanent.then_some(Neighbour { link: u32_at(body, 4)?, address, mac })
}
