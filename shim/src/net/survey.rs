//! What a namespace has, as the guest is to have it. Decides what is joined and what is refused; changes nothing.

use std::net::IpAddr;

use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, Inet6DevConf, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};

use super::kernel::Kernel;
use super::{message, routes, NetError};
use crate::api::network::{self, Switch};

/// An interface to join.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) index: u32,
    pub(super) wanted: network::Link,
}

impl Found {
    /// The name of its tap. With the highest index there is it has 15 characters, as many as a name may have.
    pub(super) fn tap(&self) -> String {
        format!("vmtap{}", self.index)
    }
}

/// The interfaces in the order of their indexes, and what is left out of them, a line each.
pub(super) async fn read(kernel: &Kernel) -> Result<(Vec<Found>, Vec<String>), NetError> {
    let (addresses, neighbours) = (kernel.addresses().await?, kernel.neighbours().await?);
    let ingress = kernel.ingress_qdiscs().await?;
    let mut links = Vec::new();
    for message in kernel.links().await? {
        let Some(mut found) = link(&message, &addresses)? else { continue };
        if ingress.contains(&found.index) {
            return Err(NetError::Taken(found.wanted.name));
        }
        found.wanted.neighbours =
            neighbours.iter().filter_map(|message| neighbour(message, found.index)).collect();
        links.push(found);
    }
    links.sort_by_key(|found| found.index);
    let left_out = routes::share_out(&kernel.routes().await?, &mut links);
    Ok((links, left_out))
}

/// The interface with its addresses, if it is one to join.
fn link(message: &LinkMessage, addresses: &[AddressMessage]) -> Result<Option<Found>, NetError> {
    let (header, name) = (&message.header, name(message).to_owned());
    if header.flags.contains(LinkFlags::Loopback) {
        return Ok(None);
    }
    let mut found = Found { index: header.index, wanted: network::Link { name, ..Default::default() } };
    for address in addresses {
        take_address(address, &mut found);
    }
    let wanted = &mut found.wanted;
    if wanted.addresses.is_empty() && !header.flags.contains(LinkFlags::Up) {
        return Ok(None);
    }
    wanted.mac = match mac(message) {
        Some(mac) => mac,
        None => return Err(NetError::NotEthernet { name: wanted.name.clone(), kind: kind(message) }),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => wanted.mtu = *mtu,
            LinkAttribute::AfSpecUnspec(families) => take_ipv6(families, wanted),
            _ => {}
        }
    }
    Ok(Some(found))
}

/// What the interface is called; every one has a name.
fn name(message: &LinkMessage) -> &str {
    let name = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    });
    name.unwrap_or_default()
}

fn mac(message: &LinkMessage) -> Option<String> {
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(address) => mac_text(address),
        _ => None,
    });
    mac.filter(|_| message.header.link_layer_type == LinkLayerType::Ether)
}

fn mac_text(bytes: &[u8]) -> Option<String> {
    let [a, b, c, d, e, f]: [u8; 6] = bytes.try_into().ok()?;
    Some(format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"))
}

/// What ip(8) calls it, such as `wireguard`; else by its hardware.
fn kind(message: &LinkMessage) -> String {
    let infos = message.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    });
    let kind = infos.flatten().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    });
    kind.unwrap_or_else(|| format!("{:?}", message.header.link_layer_type).to_lowercase())
}

/// The guest does IPv6, and heeds routers, where the namespace did.
fn take_ipv6(families: &[AfSpecUnspec], wanted: &mut network::Link) {
    let inet6 = families.iter().filter_map(|family| match family {
        AfSpecUnspec::Inet6(attributes) => Some(attributes),
        _ => None,
    });
    for attribute in inet6.flatten() {
        if let AfSpecInet6::DevConf(Inet6DevConf { disable_ipv6, accept_ra, .. }) = attribute {
            wanted.ipv6 = switch(*disable_ipv6 == 0).into();
            wanted.accept_ra = switch(*accept_ra != 0).into();
        }
    }
}

fn switch(on: bool) -> Switch {
    match on {
        true => Switch::SWITCH_ON,
        false => Switch::SWITCH_OFF,
    }
}

/// Adds the address to the interface if it is there and the guest does not get it by itself.
fn take_address(message: &AddressMessage, found: &mut Found) {
    let (mut own, mut peer, mut flags) =
        (None, None, AddressFlags::from_bits_retain(message.header.flags.bits().into()));
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => own = Some(*address),
            AddressAttribute::Address(address) => peer = Some(*address),
            // The whole of what the header has the first byte of.
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    // Only a point-to-point address of IPv6 has two.
    let (Some(own), Some(peer)) = (own.or(peer), peer.or(own)) else { return };
    if message.header.index != found.index || own.is_ipv6() && !is_settled(message.header.scope, flags) {
        return;
    }
    let length = message.header.prefix_len;
    match own == peer {
        true => found.wanted.addresses.push(message::address(own, length)),
        false => {
            // As the kernel has it: the address alone, and a route to the other end (net/ipv4/fib_frontend.c).
            found.wanted.addresses.push(message::address(own, if own.is_ipv6() { 128 } else { 32 }));
            found.wanted.routes.push(network::Route {
                destination: message::network_of(peer, length),
                source: own.to_string(),
                ..Default::default()
            });
        }
    }
}

/// Whether somebody has set the IPv6 address: link-local ones and those that routers advertise come by themselves. One
/// that another machine has is of no use.
fn is_settled(scope: AddressScope, flags: AddressFlags) -> bool {
    matches!(scope, AddressScope::Universe | AddressScope::Site)
        && flags.contains(AddressFlags::Permanent)
        && !flags.contains(AddressFlags::Dadfailed)
}

fn neighbour(message: &NeighbourMessage, link: u32) -> Option<network::Neighbour> {
    if message.header.ifindex != link || message.header.state != NeighbourState::Permanent {
        return None;
    }
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => address = Some(IpAddr::from(*ip)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => address = Some(IpAddr::from(*ip)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = mac_text(bytes),
            _ => {}
        }
    }
    Some(network::Neighbour { address: address?.to_string(), mac: mac?, ..Default::default() })
}
