//! The routes of a namespace, shared out to the interfaces they go by. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHop, RouteNextHopFlags,
    RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::AddressFamily;

use super::message;
use super::survey::Found;
use crate::api::network::{self, Scope};

/// Gives each interface its routes, and says of which the guest gets less than there is, a line each.
pub(super) fn share_out(messages: &[RouteMessage], links: &mut [Found]) -> Vec<String> {
    let mut left_out = Vec::new();
    for message in messages.iter().filter(|message| is_set(message)) {
        let Some(destination) = destination(message) else { continue };
        let Some(hop) =
            Hop::of(message, &mut |what| left_out.push(format!("route to {destination}: {what}")))
        else {
            continue;
        };
        let Some(found) = links.iter_mut().find(|found| found.index == hop.link) else { continue };
        found.wanted.routes.push(route(message, destination, hop));
    }
    left_out
}

/// Whether somebody has set it, in the main table: the guest's kernel makes its own, and hears of routers itself.
fn is_set(message: &RouteMessage) -> bool {
    let header = &message.header;
    let table = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    let comes_again = [RouteProtocol::Kernel, RouteProtocol::Ra, RouteProtocol::IcmpRedirect];
    table.unwrap_or(header.table.into()) == u32::from(RouteHeader::RT_TABLE_MAIN)
        && !comes_again.contains(&header.protocol)
        && !header.flags.contains(RouteFlags::Cloned)
        && header.kind != RouteType::Multicast
}

/// None for a destination that is no address, is link-local of IPv6, or multicast.
fn destination(message: &RouteMessage) -> Option<String> {
    let mut address: IpAddr = match message.header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    for attribute in &message.attributes {
        if let RouteAttribute::Destination(destination) = attribute {
            address = ip(destination)?;
        }
    }
    let by_itself = match address {
        IpAddr::V4(ip) => ip.is_multicast(),
        IpAddr::V6(ip) => ip.is_multicast() || ip.is_unicast_link_local(),
    };
    (!by_itself).then(|| message::prefix(address, message.header.destination_prefix_length))
}

/// Where a route leads.
#[derive(Debug, Default)]
struct Hop {
    link: u32,
    gateway: Option<IpAddr>,
    on_link: bool,
}

impl Hop {
    /// None if the guest cannot have it; `lacks` is told what is missing then.
    fn of(message: &RouteMessage, lacks: &mut dyn FnMut(&str)) -> Option<Hop> {
        if message.header.kind != RouteType::Unicast {
            lacks("only routes to somewhere reach the guest");
            return None;
        }
        let on_link = message.header.flags.contains(RouteFlags::Onlink);
        let mut hop = Hop { on_link, ..Hop::default() };
        let Err(what) = hop.take(&message.attributes) else { return Some(hop) };
        let Some(first) = first_of(message) else {
            lacks(what);
            return None;
        };
        lacks("of several hops the guest gets the first");
        let on_link = first.flags.contains(RouteNextHopFlags::Onlink);
        let mut hop = Hop { link: first.interface_index, on_link, ..Hop::default() };
        hop.take(&first.attributes).inspect_err(|what| lacks(what)).ok()?;
        Some(hop)
    }

    /// Reads link and gateway, or says why the guest's network service has no words for it.
    fn take(&mut self, attributes: &[RouteAttribute]) -> Result<(), &'static str> {
        for attribute in attributes {
            match attribute {
                RouteAttribute::Oif(link) => self.link = *link,
                RouteAttribute::Gateway(gateway) => self.gateway = ip(gateway),
                RouteAttribute::Via(_) => return Err("a gateway of another family does not reach the guest"),
                RouteAttribute::Encap(_) => return Err("an encapsulation does not reach the guest"),
                _ => {}
            }
        }
        match self.link {
            0 => Err("it goes by no interface"),
            _ => Ok(()),
        }
    }
}

fn first_of(message: &RouteMessage) -> Option<&RouteNextHop> {
    message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::MultiPath(hops) => hops.first(),
        _ => None,
    })
}

fn route(message: &RouteMessage, destination: String, hop: Hop) -> network::Route {
    let mut route = network::Route {
        destination,
        gateway: hop.gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
        on_link: hop.on_link,
        ..Default::default()
    };
    if message.header.address_family == AddressFamily::Inet {
        route.scope = scope(message.header.scope).into();
    }
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::PrefSource(source) => {
                route.source = ip(source).map(|ip| ip.to_string()).unwrap_or_default()
            }
            RouteAttribute::Priority(metric) => route.metric = *metric,
            _ => {}
        }
    }
    route
}

fn scope(scope: RouteScope) -> Scope {
    match scope {
        RouteScope::Universe => Scope::SCOPE_UNIVERSE,
        RouteScope::Link => Scope::SCOPE_LINK,
        RouteScope::Host => Scope::SCOPE_HOST,
        _ => Scope::SCOPE_AUTOMATIC,
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}
