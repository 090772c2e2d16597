//! The Network service: requests become values of `net` that cannot be wrong, and what is there becomes messages.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use protobuf::{EnumOrUnknown, MessageField};
use ttrpc::r#async::TtrpcContext;
use vminitd_api::network as wire;
use vminitd_api::network_ttrpc::Network as Service;

use super::error::invalid;
use crate::net::{
    parse_address, parse_value, Counters, Host, Invalid, Link, LinkName, Mac, Network, Prefix, Resolver,
    Route, Scope, Status, SysctlName, Wanted, WantedAddress, WantedLink, WantedRoute, Which, Word, MTU_MAX,
    MTU_MIN,
};

/// Methods that end with their client: it only looks.
pub const ABANDONABLE: [&str; 1] = ["Get"];

/// A virtual machine has room for some 30 devices on its first bus; these are more than any host plugs.
const LINKS_MAX: usize = 64;
/// Addresses of all links; likewise routes, and neighbours. A plan compares each with each, in milliseconds.
const ENTRIES_MAX: usize = 1024;
const SYSCTLS_MAX: usize = 256;
/// More would make a file of /etc/hosts that no container reads in reasonable time.
const HOSTS_MAX: usize = 1024;
/// Names of one host, and nameservers, domains and options of the resolver; libc uses fewer.
const WORDS_MAX: usize = 32;
/// Routes that are listed, so that the answer fits a frame.
const ROUTES_LISTED_MAX: usize = 4096;

/// How long links may take to appear: a device is there within 0.1 s of being plugged in, more when it is emulated.
const LINK_WAIT: Duration = Duration::from_secs(5);
const LINK_WAIT_MAX: Duration = Duration::from_secs(60);

pub struct NetworkService {
    network: Network,
}

impl NetworkService {
    pub fn new(network: Network) -> NetworkService {
        NetworkService { network }
    }
}

#[async_trait]
impl Service for NetworkService {
    async fn apply(&self, _: &TtrpcContext, req: wire::ApplyRequest) -> ttrpc::Result<wire::ApplyResponse> {
        let wait = link_wait(req.link_wait_ms)?;
        self.network.apply(wanted(&req)?, wait).await?;
        Ok(wire::ApplyResponse::new())
    }

    async fn get(&self, _ctx: &TtrpcContext, _: wire::GetRequest) -> ttrpc::Result<wire::GetResponse> {
        Ok(response(self.network.get().await?))
    }
}

/// What of a request makes no sense. The wire's own error is some hundred bytes, which is much to hand through every
/// step of reading a request.
#[derive(Debug)]
struct Nonsense(String);

impl From<Invalid> for Nonsense {
    fn from(error: Invalid) -> Nonsense {
        Nonsense(error.to_string())
    }
}

impl From<Nonsense> for ttrpc::Error {
    fn from(error: Nonsense) -> ttrpc::Error {
        invalid(error.0)
    }
}

fn nonsense<T>(why: fmt::Arguments<'_>) -> Result<T, Nonsense> {
    Err(Nonsense(why.to_string()))
}

/// Reads each; the first that makes no sense ends it.
fn all<T, U>(items: &[T], read: fn(&T) -> Result<U, Nonsense>) -> Result<Vec<U>, Nonsense> {
    let mut values = Vec::with_capacity(items.len());
    for item in items {
        values.push(read(item)?);
    }
    Ok(values)
}

fn at_most(what: &str, count: usize, max: usize) -> Result<(), Nonsense> {
    match count <= max {
        true => Ok(()),
        false => nonsense(format_args!("{count} {what} are more than {max}")),
    }
}

fn link_wait(ms: u32) -> Result<Duration, Nonsense> {
    let wait = if ms == 0 { LINK_WAIT } else { Duration::from_millis(ms.into()) };
    match wait <= LINK_WAIT_MAX {
        true => Ok(wait),
        false => nonsense(format_args!("link_wait_ms {ms} is more than {}", LINK_WAIT_MAX.as_millis())),
    }
}

fn wanted(req: &wire::ApplyRequest) -> Result<Wanted, Nonsense> {
    at_most("links", req.links.len(), LINKS_MAX)?;
    at_most("sysctls", req.sysctls.len(), SYSCTLS_MAX)?;
    at_most("hosts", req.hosts.len(), HOSTS_MAX)?;
    let total = |count: fn(&wire::Link) -> usize| req.links.iter().map(count).sum();
    at_most("addresses", total(|link| link.addresses.len()), ENTRIES_MAX)?;
    at_most("routes", total(|link| link.routes.len()), ENTRIES_MAX)?;
    at_most("neighbours", total(|link| link.neighbours.len()), ENTRIES_MAX)?;
    Ok(Wanted {
        links: links(&req.links)?,
        sysctls: sysctls(&req.sysctls)?,
        resolver: req.resolver.as_ref().map(resolver).transpose()?,
        hosts: all(&req.hosts, host)?,
    })
}

fn sysctls(requested: &[wire::Sysctl]) -> Result<Vec<(SysctlName, String)>, Nonsense> {
    let mut sysctls: Vec<(SysctlName, String)> = Vec::with_capacity(requested.len());
    for wire::Sysctl { name, value, .. } in requested {
        let (name, value) = (SysctlName::parse(name)?, parse_value(value)?);
        if sysctls.iter().any(|(other, _)| *other == name) {
            return nonsense(format_args!("{name} is set twice"));
        }
        sysctls.push((name, value));
    }
    Ok(sysctls)
}

fn links(requested: &[wire::Link]) -> Result<Vec<WantedLink>, Nonsense> {
    let mut links: Vec<WantedLink> = Vec::with_capacity(requested.len());
    for requested in requested {
        let link = link(requested)?;
        if links.iter().any(|other| clash(other, &link)) {
            return nonsense(format_args!("the link {} is named twice", link.label()));
        }
        links.push(link);
    }
    Ok(links)
}

/// Whether two are the same link, or are to have the same name.
fn clash(one: &WantedLink, other: &WantedLink) -> bool {
    one.which == other.which || one.final_name().is_some_and(|name| other.final_name() == Some(name))
}

fn link(link: &wire::Link) -> Result<WantedLink, Nonsense> {
    let name = (!link.name.is_empty()).then(|| LinkName::parse(&link.name)).transpose()?;
    let (which, name) = match (link.mac.as_str(), name) {
        ("", Some(name)) => (Which::Name(name), None),
        ("", None) => return nonsense(format_args!("a link has neither mac nor name")),
        (mac, name) => (Which::Mac(mac_of_link(mac)?), name),
    };
    let mtu = (link.mtu != 0).then_some(link.mtu);
    if mtu.is_some_and(|mtu| !(MTU_MIN..=MTU_MAX).contains(&mtu)) {
        return nonsense(format_args!("mtu {} is not from {MTU_MIN} to {MTU_MAX}", link.mtu));
    }
    Ok(WantedLink {
        which,
        name,
        mtu,
        ipv6: switch("ipv6", link.ipv6)?,
        accept_ra: switch("accept_ra", link.accept_ra)?,
        addresses: all(&link.addresses, address)?,
        routes: all(&link.routes, route)?,
        neighbours: all(&link.neighbours, neighbour)?,
    })
}

/// The loopback has the address of zeros, and is none that anybody could have plugged.
fn mac_of_link(text: &str) -> Result<Mac, Nonsense> {
    match Mac::parse(text)? {
        zero @ Mac([0, 0, 0, 0, 0, 0]) => nonsense(format_args!("{zero} is the MAC of no link")),
        mac => Ok(mac),
    }
}

fn switch(field: &str, value: EnumOrUnknown<wire::Switch>) -> Result<Option<bool>, Nonsense> {
    match value.enum_value() {
        Ok(wire::Switch::SWITCH_UNCHANGED) => Ok(None),
        Ok(wire::Switch::SWITCH_ON) => Ok(Some(true)),
        Ok(wire::Switch::SWITCH_OFF) => Ok(Some(false)),
        Err(number) => unknown(field, number),
    }
}

fn unknown<T>(field: &str, number: i32) -> Result<T, Nonsense> {
    nonsense(format_args!("{field} has the unknown value {number}"))
}

fn address(address: &wire::Address) -> Result<WantedAddress, Nonsense> {
    let prefix = Prefix::parse(&address.prefix)?;
    match prefix.address.is_unspecified() {
        true => nonsense(format_args!("{prefix} is the address of no link")),
        false => Ok(WantedAddress { prefix, nodad: address.nodad }),
    }
}

fn neighbour(neighbour: &wire::Neighbour) -> Result<(IpAddr, Mac), Nonsense> {
    Ok((parse_address(&neighbour.address)?, Mac::parse(&neighbour.mac)?))
}

fn route(route: &wire::Route) -> Result<WantedRoute, Nonsense> {
    let destination = Prefix::parse_network(&route.destination)?;
    let optional = |text: &str| -> Result<_, Nonsense> {
        let address = (!text.is_empty()).then(|| parse_address(text)).transpose()?;
        match address {
            // The kernel takes it for none, and shows none.
            Some(address) if address.is_unspecified() => {
                nonsense(format_args!("{text} in the route to {destination} is no address: leave it empty"))
            }
            address if address.is_none_or(|address| address.is_ipv6() == destination.is_ipv6()) => {
                Ok(address)
            }
            _ => nonsense(format_args!("{text} is not of the family of the route to {destination}")),
        }
    };
    let scope = match route.scope.enum_value() {
        Ok(wire::Scope::SCOPE_AUTOMATIC) => None,
        Ok(wire::Scope::SCOPE_UNIVERSE) => Some(Scope::Universe),
        Ok(wire::Scope::SCOPE_LINK) => Some(Scope::Link),
        Ok(wire::Scope::SCOPE_HOST) => Some(Scope::Host),
        Err(number) => return unknown("scope", number),
    };
    let (gateway, source) = (optional(&route.gateway)?, optional(&route.source)?);
    Ok(WantedRoute { destination, gateway, source, scope, metric: route.metric, on_link: route.on_link })
}

fn resolver(resolver: &wire::Resolver) -> Result<Resolver, Nonsense> {
    at_most("nameservers", resolver.nameservers.len(), WORDS_MAX)?;
    Ok(Resolver {
        nameservers: all(&resolver.nameservers, |text| Ok(parse_address(text)?))?,
        search: words("search domains", &resolver.search)?,
        options: words("options", &resolver.options)?,
    })
}

fn words(what: &str, texts: &[String]) -> Result<Vec<Word>, Nonsense> {
    at_most(what, texts.len(), WORDS_MAX)?;
    all(texts, |text| Ok(Word::parse(text)?))
}

fn host(host: &wire::Host) -> Result<Host, Nonsense> {
    let (address, names) = (parse_address(&host.ip)?, words("names of a host", &host.names)?);
    match names.is_empty() {
        true => nonsense(format_args!("the host {address} has no name")),
        false => Ok(Host { address, names }),
    }
}

fn response(status: Status) -> wire::GetResponse {
    let routes = status.routes.iter().take(ROUTES_LISTED_MAX).map(|route| route_status(route, &status.links));
    wire::GetResponse {
        links: status.links.iter().map(|link| link_status(link, &status)).collect(),
        routes: routes.collect(),
        ..Default::default()
    }
}

fn link_status(link: &Link, status: &Status) -> wire::LinkStatus {
    let addresses = status.addresses.iter().filter(|found| found.address.link == link.index);
    wire::LinkStatus {
        index: link.index,
        name: link.name.clone(),
        mac: text(link.mac),
        mtu: link.mtu,
        up: link.up,
        running: link.running,
        kind: link.kind.clone(),
        addresses: addresses
            .map(|found| wire::AddressStatus {
                prefix: found.address.prefix.to_string(),
                tentative: found.tentative,
                dad_failed: found.dad_failed,
                ..Default::default()
            })
            .collect(),
        counters: MessageField::some(counters(&link.counters)),
        ..Default::default()
    }
}

fn counters(counters: &Counters) -> wire::Counters {
    wire::Counters {
        rx_bytes: counters.rx_bytes,
        tx_bytes: counters.tx_bytes,
        rx_packets: counters.rx_packets,
        tx_packets: counters.tx_packets,
        rx_errors: counters.rx_errors,
        tx_errors: counters.tx_errors,
        rx_dropped: counters.rx_dropped,
        tx_dropped: counters.tx_dropped,
        ..Default::default()
    }
}

fn route_status(route: &Route, links: &[Link]) -> wire::RouteStatus {
    let link = links.iter().find(|link| link.index == route.link);
    wire::RouteStatus {
        destination: route.destination.to_string(),
        gateway: text(route.gateway),
        source: text(route.source),
        link: link.map(|link| link.name.clone()).unwrap_or_default(),
        metric: route.metric,
        scope: route.scope.into(),
        on_link: route.on_link,
        ..Default::default()
    }
}

/// Empty for none.
fn text(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
