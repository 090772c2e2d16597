//! User-mode networking, which stands for the host's own network: QEMU opens the connections itself, and nobody can
//! connect to the guest. Owns the addresses that libslirp has by default; needs no namespace and no privilege.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::message;
use crate::api::network;

/// Of QEMU's first NIC; every machine has a network of its own here.
const MAC: &str = "52:54:00:12:34:56";
/// In bytes (libslirp, `IF_MTU_DEFAULT`).
const MTU: u32 = 1500;
const NAME: &str = "eth0";
/// The first that libslirp's DHCP would give, in its network 10.0.2.0/24 (qemu(1), `-netdev user`).
const ADDRESS: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 0, 2, 15), 24);
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const RESOLVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// The same in its network fec0::/64. Programs prefer IPv4 to such an address (RFC 6724, section 2.1), so a host
/// without IPv6 is no harm.
const ADDRESS_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0x15), 64);
const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 2);

/// A NIC of a `-netdev user`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserNic {
    /// Six bytes in lower-case hexadecimal, with colons.
    pub mac: String,
}

/// The one NIC of a machine in user mode, and what the guest is to configure. The resolver goes to the guest's file,
/// which a container sees that has none of its own.
pub fn user_mode(sysctls: &BTreeMap<String, String>) -> (UserNic, network::ApplyRequest) {
    let link = network::Link {
        mac: MAC.into(),
        name: NAME.into(),
        mtu: MTU,
        ipv6: network::Switch::SWITCH_ON.into(),
        // libslirp advertises what is set here.
        accept_ra: network::Switch::SWITCH_OFF.into(),
        addresses: vec![
            message::address(ADDRESS.0.into(), ADDRESS.1),
            message::address(ADDRESS_V6.0.into(), ADDRESS_V6.1),
        ],
        routes: vec![
            default_route(Ipv4Addr::UNSPECIFIED.into(), ROUTER.into()),
            default_route(Ipv6Addr::UNSPECIFIED.into(), ROUTER_V6.into()),
        ],
        ..Default::default()
    };
    let resolver = network::Resolver { nameservers: vec![RESOLVER.to_string()], ..Default::default() };
    let request = network::ApplyRequest {
        links: vec![link],
        sysctls: message::sysctls(sysctls),
        resolver: Some(resolver).into(),
        ..Default::default()
    };
    (UserNic { mac: MAC.into() }, request)
}

fn default_route(everything: IpAddr, router: IpAddr) -> network::Route {
    network::Route {
        destination: message::prefix(everything, 0),
        gateway: router.to_string(),
        ..Default::default()
    }
}
