//! What can be told of a container's resolver without asking anybody. Pure.
//!
//! Docker's own, at 127.0.0.11 in the networks that users make, listens in the container's namespace on the host, and
//! asks others from there. The guest cannot reach that loopback; and were it led there, the answers of those others
//! would come in at the interface, from where everything goes to the guest.

use std::net::IpAddr;

/// A line for the log, if the container's `/etc/resolv.conf` names a server that it will not reach: one at a loopback
/// address, such as docker's at 127.0.0.11, listens on the host's side of the network, and the guest's loopback is its
/// own.
pub fn unreachable_resolver(resolv_conf: &str) -> Option<String> {
    let servers = resolv_conf
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("nameserver")?.split_whitespace().next());
    let mut loopback = servers.filter(|text| text.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()));
    let server = loopback.next()?;
    Some(format!("the resolver {server} is a service of the host's loopback, which the guest does not reach"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_on_the_loopback_is_named() {
        let text = "# nameserver 127.0.0.1\nsearch example\nnameserver 127.0.0.11\noptions ndots:0\n";
        assert!(unreachable_resolver(text).is_some_and(|line| line.contains("127.0.0.11")));
        assert!(unreachable_resolver("nameserver ::1").is_some());
    }

    #[test]
    fn a_resolver_elsewhere_is_not() {
        assert_eq!(unreachable_resolver("nameserver 192.0.2.1\nnameserver 2001:db8::1\n"), None);
        assert_eq!(unreachable_resolver(""), None);
    }
}
