//! Parts of the request to the guest's network service. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::api::network;

pub(super) fn sysctls(sysctls: &BTreeMap<String, String>) -> Vec<network::Sysctl> {
    let sysctl = |(name, value): (&String, &String)| network::Sysctl {
        name: name.clone(),
        value: value.clone(),
        ..Default::default()
    };
    sysctls.iter().map(sysctl).collect()
}

/// An address that may be used at once: whoever has made the interface has seen to it that nobody else has it.
pub(super) fn address(address: IpAddr, length: u8) -> network::Address {
    network::Address { prefix: prefix(address, length), nodad: address.is_ipv6(), ..Default::default() }
}

pub(super) fn prefix(address: IpAddr, length: u8) -> String {
    format!("{address}/{length}")
}

/// The prefix that an address of this length is in.
pub(super) fn network_of(address: IpAddr, length: u8) -> String {
    let length = u32::from(length);
    match address {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(u32::BITS.saturating_sub(length)).unwrap_or(0);
            format!("{}/{length}", std::net::Ipv4Addr::from_bits(ip.to_bits() & mask))
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(u128::BITS.saturating_sub(length)).unwrap_or(0);
            format!("{}/{length}", std::net::Ipv6Addr::from_bits(ip.to_bits() & mask))
        }
    }
}
