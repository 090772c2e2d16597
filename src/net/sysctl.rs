//! The `net.*` settings of the kernel: their names, their values, and the files they are. No other settings.

use std::{fmt, io};

use super::types::{invalid, Invalid, LinkName};
use crate::sys::sysctl::Name;

/// Longest value; the kernel's longest is a list of ports.
const VALUE_MAX: usize = 1024;

/// The name of a setting below `net`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SysctlName(Name);

impl SysctlName {
    /// As [`Name::parse`], but what is not below `net/<family>` is refused: it is not of the network alone.
    pub fn parse(text: &str) -> Result<SysctlName, Invalid> {
        let below_net =
            |name: &Name| name.as_str().starts_with("net/") && name.as_str().split('/').count() > 2;
        let name = Name::parse(text).filter(below_net);
        name.map(SysctlName).ok_or_else(|| invalid("name of a net.* sysctl", text))
    }

    /// A setting of one interface for IPv6; none for an interface whose name is no part of one.
    pub fn of_ipv6(link: &LinkName, setting: &str) -> SysctlName {
        let name = Name::parse(&format!("net/ipv6/conf/{link}/{setting}"));
        SysctlName(name.expect("the name of a link is one part of a path, and short"))
    }

    /// As [`Name::read`].
    pub fn read(&self) -> Option<String> {
        self.0.read()
    }

    /// # Errors
    /// As [`Name::write`].
    pub fn write(&self, value: &str) -> io::Result<()> {
        self.0.write(value)
    }
}

impl fmt::Display for SysctlName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A value that is to be set: one line.
pub fn parse_value(text: &str) -> Result<String, Invalid> {
    match text.len() <= VALUE_MAX && !text.contains(['\n', '\0']) {
        true => Ok(text.to_owned()),
        false => Err(invalid("value of a sysctl", text)),
    }
}

/// Whether two values are the same: the kernel shows lists with tabs in them.
pub fn same_value(one: &str, other: &str) -> bool {
    one.split_whitespace().eq(other.split_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_sysctl_reads_them() {
        for (text, path) in [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("net/ipv4/conf/eth0.100/rp_filter", "net/ipv4/conf/eth0.100/rp_filter"),
            ("net.ipv4.conf.eth0/100.rp_filter", "net/ipv4/conf/eth0.100/rp_filter"),
        ] {
            assert_eq!(SysctlName::parse(text).unwrap().to_string(), path);
        }
    }

    #[test]
    fn what_is_not_below_net_is_refused() {
        for bad in [
            "",
            "net",
            "net.x",
            "kernel.panic",
            "/net/ipv4/x",
            "net/../kernel/panic",
            "net/ipv4/..",
            "net/ipv4//x",
            "net.ipv4.//.x",
            "net/./x",
            "net/ipv4/a b",
            "netx/ipv4/x",
        ] {
            assert!(SysctlName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_list_is_the_same_with_tabs() {
        assert!(same_value("4096 131072 6291456", "4096\t131072\t6291456\n"));
        assert!(!same_value("1", "0\n"));
    }
}
