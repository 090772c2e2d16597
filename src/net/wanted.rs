//! What a network is to be: values that were parsed, and which links of the kernel they are about. Pure.

use std::net::IpAddr;

use super::entry::{Address, Link, Neighbour, Route};
use super::files::{Host, Resolver};
use super::plan::{Item, Target};
use super::sysctl::SysctlName;
use super::types::{LinkName, Mac, Prefix};

/// A link may be no larger than this, and IPv6 no smaller than 1280; the kernel knows more about each kind.
pub const MTU_MAX: u32 = 65_536;
/// The smallest that carries IPv4 (RFC 791).
pub const MTU_MIN: u32 = 68;
/// Metric of an IPv6 route that names none (net/ipv6: IP6_RT_PRIO_USER).
const IPV6_METRIC: u32 = 1024;

/// The whole of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    pub links: Vec<WantedLink>,
    /// Set after all links.
    pub sysctls: Vec<(SysctlName, String)>,
    /// None leaves the file alone.
    pub resolver: Option<Resolver>,
    pub hosts: Vec<Host>,
}

/// How a link is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    Mac(Mac),
    Name(LinkName),
}

/// A link that is to be up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedLink {
    pub which: Which,
    /// What it is to be called, if it is found by its MAC; none keeps its name.
    pub name: Option<LinkName>,
    pub mtu: Option<u32>,
    /// IPv6 on or off, and whether routers may configure it.
    pub ipv6: Option<bool>,
    pub accept_ra: Option<bool>,
    pub addresses: Vec<WantedAddress>,
    pub routes: Vec<WantedRoute>,
    pub neighbours: Vec<(IpAddr, Mac)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WantedAddress {
    pub prefix: Prefix,
    /// Without duplicate detection (IPv6).
    pub nodad: bool,
}

/// How far away the destination of an IPv4 route is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Universe,
    Link,
    Host,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WantedRoute {
    pub destination: Prefix,
    pub gateway: Option<IpAddr>,
    pub source: Option<IpAddr>,
    /// None: universe by a gateway, else link.
    pub scope: Option<Scope>,
    pub metric: u32,
    pub on_link: bool,
}

impl WantedLink {
    /// A link of this name that is to be up, and nothing else.
    pub fn named(name: LinkName) -> WantedLink {
        WantedLink {
            which: Which::Name(name),
            name: None,
            mtu: None,
            ipv6: None,
            accept_ra: None,
            addresses: Vec::new(),
            routes: Vec::new(),
            neighbours: Vec::new(),
        }
    }

    /// How the link is called in an error.
    pub fn label(&self) -> String {
        match &self.which {
            Which::Mac(mac) => mac.to_string(),
            Which::Name(name) => name.to_string(),
        }
    }

    /// What it will be called, if that is known before it is found.
    pub fn final_name(&self) -> Option<&LinkName> {
        match &self.which {
            Which::Mac(_) => self.name.as_ref(),
            Which::Name(name) => Some(name),
        }
    }

    /// The link of these. What is stacked on a device often has its MAC: the device itself is meant, which came first.
    pub fn find<'a>(&self, links: &'a [Link]) -> Option<&'a Link> {
        let fits = |link: &&Link| match &self.which {
            Which::Mac(mac) => link.mac == Some(*mac),
            Which::Name(name) => link.name == name.as_str(),
        };
        links.iter().filter(fits).min_by_key(|link| (!link.kind.is_empty(), link.index))
    }
}

impl WantedRoute {
    /// A route by a gateway, and nothing else about it.
    pub fn via(destination: Prefix, gateway: IpAddr) -> WantedRoute {
        WantedRoute { gateway: Some(gateway), ..WantedRoute::direct(destination) }
    }

    /// A route to what is on the link itself.
    pub fn direct(destination: Prefix) -> WantedRoute {
        WantedRoute { destination, gateway: None, source: None, scope: None, metric: 0, on_link: false }
    }

    /// The route as the kernel will show it.
    fn of_link(&self, link: u32) -> Route {
        let ipv6 = self.destination.is_ipv6();
        let scope = match self.scope {
            _ if ipv6 => 0,
            Some(Scope::Universe) => 0,
            None if self.gateway.is_some() => 0,
            Some(Scope::Link) | None => 253,
            Some(Scope::Host) => 254,
        };
        Route {
            link,
            destination: self.destination,
            gateway: self.gateway,
            source: self.source,
            scope,
            metric: if ipv6 && self.metric == 0 { IPV6_METRIC } else { self.metric },
            on_link: self.on_link,
        }
    }
}

impl Wanted {
    /// The wanted links that are not among these.
    pub fn missing<'a>(&'a self, links: &'a [Link]) -> impl Iterator<Item = &'a WantedLink> {
        self.links.iter().filter(|wanted| wanted.find(links).is_none())
    }

    /// What is wanted of the links that are there, in the kernel's own terms.
    pub fn target(&self, links: &[Link]) -> Target {
        let mut target = Target { sysctls: self.sysctls.clone(), ..Target::default() };
        for wanted in &self.links {
            if let Some(link) = wanted.find(links) {
                wanted.add_to(&mut target, link);
            }
        }
        target
    }
}

impl WantedLink {
    fn add_to(&self, target: &mut Target, link: &Link) {
        let index = link.index;
        target.items.push(Item::Up(index));
        target.names.extend(self.name.clone().map(|name| (index, name)));
        target.mtus.extend(self.mtu.map(|mtu| (index, mtu)));
        // A name that is shown but cannot be parsed is none that the settings of IPv6 could be reached by.
        let name = self.name.clone().or_else(|| LinkName::parse(&link.name).ok());
        for (setting, value) in [("disable_ipv6", self.ipv6.map(|on| !on)), ("accept_ra", self.accept_ra)] {
            if let (Some(name), Some(value)) = (&name, value) {
                let value = if value { "1" } else { "0" };
                target.switches.push((SysctlName::of_ipv6(name, setting), value.to_owned()));
            }
        }
        for WantedAddress { prefix, nodad } in &self.addresses {
            let address = Address { link: index, prefix: *prefix };
            target.items.push(Item::Address(address));
            target.nodad.extend(nodad.then_some(address));
        }
        for (address, mac) in &self.neighbours {
            target.items.push(Item::Neighbour(Neighbour { link: index, address: *address, mac: *mac }));
        }
        target.items.extend(self.routes.iter().map(|route| Item::Route(route.of_link(index))));
    }
}
