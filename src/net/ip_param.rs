//! The `ip=` parameter of the kernel's command line: what one says, and what all of them make of the network. Pure.
//!
//! `ip=<client>:<server>:<gateway>:<netmask>:<hostname>:<device>:<autoconf>:<dns0>:<dns1>`, as in the kernel's
//! Documentation/admin-guide/nfs/nfsroot.rst. Addresses of IPv6 stand in brackets. The server is not used, and the
//! hostname is for others.

use std::net::{IpAddr, Ipv4Addr};

use super::files::Resolver;
use super::types::{parse_address, Invalid, LinkName, Prefix};
use super::wanted::{Wanted, WantedAddress, WantedLink, WantedRoute};

/// The device of a parameter that names none.
const DEVICE: &str = "eth0";
/// The length of the prefix where none is given.
const IPV4_PREFIX: u8 = 24;
const IPV6_PREFIX: u8 = 64;
/// Protocols that give an address.
const AUTOCONF: [&str; 6] = ["dhcp", "on", "any", "both", "bootp", "rarp"];
/// Where the metadata services of clouds are.
const METADATA: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));

/// Why a parameter, or part of it, is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParamError {
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error("{0:?} is no netmask")]
    Netmask(String),
    #[error("asking a server for an address ({0}) is not built")]
    Autoconf(String),
    #[error("the gateway {0} is not of the address's family")]
    Gateway(IpAddr),
    #[error("the device {0} is configured by an earlier parameter")]
    Repeated(String),
}

/// What all parameters ask for, and what is wrong with them; a part that is wrong does not keep the rest from its
/// effect. With `metadata` there is a route to the metadata service by each IPv4 gateway's link.
pub fn wanted(parameters: &[String], metadata: bool) -> (Wanted, Vec<ParamError>) {
    let (mut wanted, mut problems) = (Wanted::default(), Vec::new());
    let mut nameservers = Vec::new();
    for parameter in parameters {
        let fields = Fields::of(parameter);
        match link(&fields, metadata, &mut problems) {
            // The first one wins, with all it says.
            Ok(Some(link)) if wanted.links.iter().any(|other: &WantedLink| other.which == link.which) => {
                problems.push(ParamError::Repeated(link.label()));
                continue;
            }
            Ok(link) => wanted.links.extend(link),
            Err(error) => problems.push(error),
        }
        for field in [7, 8].map(|place| fields.get(place)).into_iter().filter(|field| !field.is_empty()) {
            match parse_address(unbracketed(field)) {
                // The same server is often named for each device.
                Ok(server) if nameservers.contains(&server) => {}
                Ok(server) => nameservers.push(server),
                Err(error) => problems.push(error.into()),
            }
        }
    }
    if !nameservers.is_empty() {
        wanted.resolver = Some(Resolver { nameservers, ..Resolver::default() });
    }
    (wanted, problems)
}

/// The name of the host that a parameter gives.
pub fn host_name(parameter: &str) -> Option<&str> {
    Some(Fields::of(parameter).get(4)).filter(|name| !name.is_empty())
}

/// The link of a parameter; none if it gives no address. A gateway that is wrong is a problem, and the link goes
/// without.
fn link(
    fields: &Fields<'_>,
    metadata: bool,
    problems: &mut Vec<ParamError>,
) -> Result<Option<WantedLink>, ParamError> {
    let client = fields.get(0);
    // The short form is the protocol alone.
    let protocol = if client.is_empty() { fields.get(6) } else { client };
    if AUTOCONF.contains(&protocol) {
        return Err(ParamError::Autoconf(protocol.to_owned()));
    }
    if client.is_empty() {
        return Ok(None);
    }
    let device = if fields.get(5).is_empty() { DEVICE } else { fields.get(5) };
    let address = parse_address(unbracketed(client))?;
    let prefix = prefix(address, fields.get(3))?;
    let mut link = WantedLink::named(LinkName::parse(device)?);
    link.addresses.push(WantedAddress { prefix, nodad: true });
    if !matches!(fields.get(2), "" | "0.0.0.0" | "[::]") {
        match gateway(fields.get(2), prefix) {
            Ok(gateway) => link.routes = routes(gateway, prefix, metadata),
            Err(error) => problems.push(error),
        }
    }
    Ok(Some(link))
}

fn gateway(field: &str, prefix: Prefix) -> Result<IpAddr, ParamError> {
    let gateway = parse_address(unbracketed(field))?;
    match gateway.is_ipv6() == prefix.is_ipv6() {
        true => Ok(gateway),
        false => Err(ParamError::Gateway(gateway)),
    }
}

fn routes(gateway: IpAddr, prefix: Prefix, metadata: bool) -> Vec<WantedRoute> {
    let mut routes = Vec::new();
    if !prefix.contains(gateway) {
        routes.push(WantedRoute::direct(Prefix::host(gateway)));
    }
    let any = Prefix::new(prefix.address, 0).map(|all| all.network());
    routes.extend(any.map(|any| WantedRoute::via(any, gateway)));
    if metadata && !prefix.is_ipv6() {
        routes.push(WantedRoute::via(Prefix::host(METADATA), gateway));
    }
    routes
}

/// The netmask as an address, or as the length of the prefix.
fn prefix(address: IpAddr, netmask: &str) -> Result<Prefix, ParamError> {
    let length = match (netmask, address) {
        ("", IpAddr::V4(_)) => Some(IPV4_PREFIX),
        ("", IpAddr::V6(_)) => Some(IPV6_PREFIX),
        (mask, IpAddr::V4(_)) if mask.contains('.') => mask.parse().ok().and_then(ones),
        (length, _) => length.parse().ok(),
    };
    let prefix = length.and_then(|length| Prefix::new(address, length));
    prefix.ok_or_else(|| ParamError::Netmask(netmask.to_owned()))
}

/// How many ones a mask begins with; none if others follow a zero.
fn ones(mask: Ipv4Addr) -> Option<u8> {
    let bits = mask.to_bits();
    (bits.leading_ones() + bits.trailing_zeros() >= 32).then_some(bits.leading_ones() as u8)
}

/// The fields of a parameter: what the colons outside brackets divide. Those that are missing are empty.
struct Fields<'a>(Vec<&'a str>);

impl<'a> Fields<'a> {
    fn of(parameter: &'a str) -> Fields<'a> {
        let mut depth = 0_i32;
        let divides = |c: char| {
            depth += i32::from(c == '[') - i32::from(c == ']');
            c == ':' && depth <= 0
        };
        Fields(parameter.split(divides).collect())
    }

    fn get(&self, place: usize) -> &'a str {
        self.0.get(place).copied().unwrap_or_default()
    }
}

fn unbracketed(field: &str) -> &str {
    field.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(field)
}

#[cfg(test)]
mod tests;
