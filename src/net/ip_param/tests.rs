//! Parameters, and the network they make.

use proptest::prelude::*;

use super::*;
use crate::net::wanted::Which;

/// The network of these parameters in short: `device address; destination via gateway; …`, then nameservers and problems.
fn short(parameters: &[&str], metadata: bool) -> String {
    let parameters: Vec<String> = parameters.iter().map(|text| text.to_string()).collect();
    let (wanted, problems) = wanted(&parameters, metadata);
    let mut parts = Vec::new();
    for link in &wanted.links {
        parts.push(format!("{} {}", link.label(), link.addresses[0].prefix));
        for WantedRoute { destination, gateway, .. } in &link.routes {
            let via = gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
            parts.push(format!("{destination}{via}"));
        }
    }
    let servers = wanted.resolver.iter().flat_map(|resolver| &resolver.nameservers);
    parts.extend(servers.map(|server| format!("dns {server}")));
    parts.extend(problems.iter().map(|problem| format!("! {problem}")));
    parts.join("; ")
}

#[test]
fn parameters_are_read_as_the_host_writes_them() {
    for (parameter, expected) in [
        (
            "192.0.2.7::192.0.2.1:255.255.255.0::eth0:none:192.0.2.53:198.51.100.53",
            "eth0 192.0.2.7/24; 0.0.0.0/0 via 192.0.2.1; dns 192.0.2.53; dns 198.51.100.53",
        ),
        ("192.0.2.7", "eth0 192.0.2.7/24"),
        ("192.0.2.7::::::", "eth0 192.0.2.7/24"),
        ("192.0.2.7:::26::lan0", "lan0 192.0.2.7/26"),
        ("192.0.2.7:198.51.100.9::255.255.255.255:name:eth1:off", "eth1 192.0.2.7/32"),
        (
            "192.0.2.7::203.0.113.1:255.255.255.255",
            "eth0 192.0.2.7/32; 203.0.113.1/32; 0.0.0.0/0 via 203.0.113.1",
        ),
        ("[2001:db8::7]::[2001:db8::1]:64::eth0", "eth0 2001:db8::7/64; ::/0 via 2001:db8::1"),
        ("[2001:db8::7]::[fe80::1]", "eth0 2001:db8::7/64; fe80::1/128; ::/0 via fe80::1"),
        ("192.0.2.7::0.0.0.0:24", "eth0 192.0.2.7/24"),
        ("::::::", ""),
        ("", ""),
        (":::::::9.9.9.9", "dns 9.9.9.9"),
    ] {
        assert_eq!(short(&[parameter], false), expected, "{parameter}");
    }
}

#[test]
fn what_is_wrong_is_told_and_the_rest_is_used() {
    for (parameter, expected) in [
        ("192.0.2.7:::255.0.255.0", "! \"255.0.255.0\" is no netmask"),
        ("192.0.2.7:::33", "! \"33\" is no netmask"),
        ("192.0.2.7:::x", "! \"x\" is no netmask"),
        ("192.0.2:::24", "! \"192.0.2\" is no IP address"),
        ("192.0.2.7::nowhere", "eth0 192.0.2.7/24; ! \"nowhere\" is no IP address"),
        ("192.0.2.7::[::1]", "eth0 192.0.2.7/24; ! the gateway ::1 is not of the address's family"),
        ("192.0.2.7:::::a/b", "! \"a/b\" is no name of an interface"),
        ("192.0.2.7:::::::bad:9.9.9.9", "eth0 192.0.2.7/24; dns 9.9.9.9; ! \"bad\" is no IP address"),
        ("::::::dhcp", "! asking a server for an address (dhcp) is not built"),
        ("dhcp", "! asking a server for an address (dhcp) is not built"),
        (":::::eth0:on", "! asking a server for an address (on) is not built"),
    ] {
        assert_eq!(short(&[parameter], false), expected, "{parameter}");
    }
}

#[test]
fn several_parameters_are_several_devices_and_the_first_of_a_device_wins() {
    let parameters =
        ["192.0.2.7:::::eth0::9.9.9.9", "198.51.100.7:::::eth1::9.9.9.9", "203.0.113.7:::::eth0::1.1.1.1"];
    assert_eq!(
        short(&parameters, false),
        "eth0 192.0.2.7/24; eth1 198.51.100.7/24; dns 9.9.9.9; \
         ! the device eth0 is configured by an earlier parameter"
    );
}

#[test]
fn the_metadata_service_is_reached_by_the_gateway_if_there_is_one() {
    let route = "eth0 192.0.2.7/24; 0.0.0.0/0 via 192.0.2.1; 169.254.169.254/32 via 192.0.2.1";
    assert_eq!(short(&["192.0.2.7::192.0.2.1"], true), route);
    assert_eq!(short(&["192.0.2.7"], true), "eth0 192.0.2.7/24");
}

proptest! {
    #[test]
    fn any_text_is_read_to_an_end(parameters in prop::collection::vec("[0-9a-z:./\\[\\]-]{0,80}", 0..4)) {
        let (wanted, _) = wanted(&parameters, true);
        prop_assert!(wanted.links.len() <= parameters.len());
        for link in &wanted.links {
            prop_assert!(matches!(link.which, Which::Name(_)));
        }
    }

    #[test]
    fn every_contiguous_mask_is_a_length_and_no_other_is(bits in any::<u32>()) {
        let contiguous = (0..=32).find(|length| u32::MAX.checked_shl(32 - length).unwrap_or(0) == bits);
        prop_assert_eq!(ones(Ipv4Addr::from_bits(bits)).map(u32::from), contiguous);
    }
}
