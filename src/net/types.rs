//! Names and addresses that cannot be wrong: whoever holds one need not look at it again. Parsing only; no IO.

use std::fmt;
use std::net::IpAddr;

/// Longest name of an interface: IFNAMSIZ less its zero (linux/if.h).
const LINK_NAME_MAX: usize = 15;

/// Why a text is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}")]
pub struct Invalid {
    pub what: &'static str,
    pub text: String,
}

pub(super) fn invalid(what: &'static str, text: &str) -> Invalid {
    // A text that is quoted in an answer is not to fill it.
    Invalid { what, text: text.chars().take(64).collect() }
}

/// The name of an interface: one that the kernel takes (net/core/dev.c, `dev_valid_name`), of characters that are shown,
/// and none that stands for all interfaces in /proc/sys/net (Documentation/networking/ip-sysctl.rst).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkName(String);

impl LinkName {
    pub fn parse(text: &str) -> Result<LinkName, Invalid> {
        let taken = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b':' && byte != b'%';
        let fits = (1..=LINK_NAME_MAX).contains(&text.len()) && text.bytes().all(taken);
        match fits && !matches!(text, "." | ".." | "all" | "default") {
            true => Ok(LinkName(text.to_owned())),
            false => Err(invalid("name of an interface", text)),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Six bytes in hexadecimal digits, two each, joined by colons.
    pub fn parse(text: &str) -> Result<Mac, Invalid> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2 && !part.starts_with('+'));
            *byte = part
                .and_then(|part| u8::from_str_radix(part, 16).ok())
                .ok_or_else(|| invalid("MAC address", text))?;
        }
        match parts.next() {
            None => Ok(Mac(bytes)),
            Some(_) => Err(invalid("MAC address", text)),
        }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if place == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

/// An address and how many of its bits, from the front, name the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    pub address: IpAddr,
    length: u8,
}

impl Prefix {
    /// `None` if the address has fewer bits than that.
    pub fn new(address: IpAddr, length: u8) -> Option<Prefix> {
        (length <= bits(&address)).then_some(Prefix { address, length })
    }

    /// The address alone: all of its bits.
    pub fn host(address: IpAddr) -> Prefix {
        Prefix { address, length: bits(&address) }
    }

    /// An address of an interface, such as `192.0.2.7/24`. Without a length it is the address alone.
    pub fn parse(text: &str) -> Result<Prefix, Invalid> {
        Self::read(text).ok_or_else(|| invalid("address with a prefix length", text))
    }

    /// A destination, such as `192.0.2.0/24`: nothing but zeros follows the prefix.
    pub fn parse_network(text: &str) -> Result<Prefix, Invalid> {
        let read = Self::read(text).filter(|prefix| prefix.network() == *prefix);
        read.ok_or_else(|| invalid("network", text))
    }

    fn read(text: &str) -> Option<Prefix> {
        match text.split_once('/') {
            None => Some(Self::host(text.parse().ok()?)),
            // A sign would do for `parse`.
            Some((_, length)) if !length.bytes().all(|byte| byte.is_ascii_digit()) => None,
            Some((address, length)) => Self::new(address.parse().ok()?, length.parse().ok()?),
        }
    }

    pub fn length(&self) -> u8 {
        self.length
    }

    pub fn is_ipv6(&self) -> bool {
        self.address.is_ipv6()
    }

    /// The same with zeros behind the prefix.
    pub fn network(&self) -> Prefix {
        Prefix { address: with_rest(self.address, self.length, false), length: self.length }
    }

    /// The address with ones behind the prefix, to which IPv4 broadcasts.
    pub fn last(&self) -> IpAddr {
        with_rest(self.address, self.length, true)
    }

    /// Whether the address is in this network.
    pub fn contains(&self, address: IpAddr) -> bool {
        Self::new(address, self.length).is_some_and(|other| {
            other.is_ipv6() == self.is_ipv6() && other.network().address == self.network().address
        })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

fn bits(address: &IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The address with all bits behind the first `length` replaced.
fn with_rest(address: IpAddr, length: u8, ones: bool) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let rest = u32::MAX.checked_shr(length.into()).unwrap_or(0);
            let bits = v4.to_bits();
            IpAddr::V4(std::net::Ipv4Addr::from_bits(if ones { bits | rest } else { bits & !rest }))
        }
        IpAddr::V6(v6) => {
            let rest = u128::MAX.checked_shr(length.into()).unwrap_or(0);
            let bits = v6.to_bits();
            IpAddr::V6(std::net::Ipv6Addr::from_bits(if ones { bits | rest } else { bits & !rest }))
        }
    }
}

/// The bytes of an address as they go over the wire.
pub fn octets(address: &IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The address that has these bytes; `None` if they are neither 4 nor 16.
pub fn address_of(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(octets).ok().map(IpAddr::from)
}

/// The address of IPv4 or IPv6 in this text.
pub fn parse_address(text: &str) -> Result<IpAddr, Invalid> {
    text.parse().map_err(|_| invalid("IP address", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_kernel_refuses_or_that_are_paths_are_refused() {
        for good in ["eth0", "a", "eth0.100", "exactly-fifteen"] {
            assert_eq!(LinkName::parse(good).unwrap().as_str(), good);
        }
        for bad in
            ["", ".", "..", "a/b", "a b", "a:b", "a%d", "\n", "é", "longer-than-fifteen", "all", "default"]
        {
            assert!(LinkName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_mac_address_is_six_bytes() {
        assert_eq!(Mac::parse("52:54:00:AB:cd:ef").unwrap().to_string(), "52:54:00:ab:cd:ef");
        for bad in ["", "52:54:00:ab:cd", "52:54:00:ab:cd:ef:01", "5:54:00:ab:cd:ef", "+5:54:00:ab:cd:ef"] {
            assert!(Mac::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn prefixes_are_read_and_shown() {
        for (text, shown) in [
            ("192.0.2.7/24", "192.0.2.7/24"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::1/64", "2001:db8::1/64"),
            ("::", "::/128"),
        ] {
            assert_eq!(Prefix::parse(text).unwrap().to_string(), shown);
        }
        for bad in ["", "/24", "192.0.2.7/", "192.0.2.7/33", "192.0.2.7/+8", "::1/129", "192.0.2/24", "x"] {
            assert!(Prefix::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Prefix::parse_network("192.0.2.0/24").is_ok());
        assert!(Prefix::parse_network("192.0.2.7/24").is_err());
    }

    #[test]
    fn a_network_contains_its_addresses_and_no_other() {
        let of = |text| Prefix::parse(text).unwrap();
        let contains = |network, address: &str| of(network).contains(address.parse().unwrap());
        assert!(contains("192.0.2.7/24", "192.0.2.255"));
        assert!(!contains("192.0.2.7/24", "192.0.3.0"));
        assert!(contains("0.0.0.0/0", "203.0.113.1"));
        assert!(!contains("0.0.0.0/0", "::"));
        assert!(contains("2001:db8::/32", "2001:db8:ffff::1"));
        assert_eq!(of("192.0.2.7/24").last().to_string(), "192.0.2.255");
        assert_eq!(of("192.0.2.7/32").last().to_string(), "192.0.2.7");
    }
}
