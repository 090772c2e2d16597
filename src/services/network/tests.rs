//! Requests that make no sense, and what becomes of those that do.

use ttrpc::Code;

use super::*;

fn named(name: &str) -> wire::Link {
    wire::Link { name: name.into(), ..Default::default() }
}

fn with_links(links: Vec<wire::Link>) -> wire::ApplyRequest {
    wire::ApplyRequest { links, ..Default::default() }
}

fn with_route(route: wire::Route) -> wire::ApplyRequest {
    with_links(vec![wire::Link { routes: vec![route], ..named("eth0") }])
}

fn with_sysctls(sysctls: &[(&str, &str)]) -> wire::ApplyRequest {
    let sysctl = |(name, value): &(&str, &str)| wire::Sysctl {
        name: name.to_string(),
        value: value.to_string(),
        ..Default::default()
    };
    wire::ApplyRequest { sysctls: sysctls.iter().map(sysctl).collect(), ..Default::default() }
}

fn default_route(gateway: &str) -> wire::Route {
    wire::Route { destination: "0.0.0.0/0".into(), gateway: gateway.into(), ..Default::default() }
}

/// The text of the refusal.
fn refused(request: wire::ApplyRequest) -> String {
    let refused: ttrpc::Error = wanted(&request).expect_err("it makes no sense").into();
    match refused {
        ttrpc::Error::RpcStatus(status) => {
            assert_eq!(status.code(), Code::INVALID_ARGUMENT);
            status.message().to_owned()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_its_name() {
    let link = |change: fn(&mut wire::Link)| {
        let mut link = named("eth0");
        change(&mut link);
        with_links(vec![link])
    };
    let address = |text: &str| wire::Address { prefix: text.into(), ..Default::default() };
    for (request, text) in [
        (link(|link| link.name.clear()), "a link has neither mac nor name"),
        (link(|link| link.name = "a/b".into()), "\"a/b\" is no name of an interface"),
        (link(|link| link.mac = "1:2".into()), "\"1:2\" is no MAC address"),
        (link(|link| link.mac = "00:00:00:00:00:00".into()), "00:00:00:00:00:00 is the MAC of no link"),
        (link(|link| link.name = "all".into()), "\"all\" is no name of an interface"),
        (link(|link| link.mtu = 67), "mtu 67 is not from 68 to 65536"),
        (link(|link| link.ipv6 = EnumOrUnknown::from_i32(7)), "ipv6 has the unknown value 7"),
        (with_links(vec![named("a"), named("a")]), "the link a is named twice"),
        (with_links((0..65).map(|n| named(&format!("l{n}"))).collect()), "65 links are more than 64"),
        (
            with_links(vec![wire::Link { addresses: vec![address("1.2.3.4/33")], ..named("a") }]),
            "\"1.2.3.4/33\" is no address with a prefix length",
        ),
        (
            with_links(vec![wire::Link { addresses: vec![address("::1"); 1025], ..named("a") }]),
            "1025 addresses are more than 1024",
        ),
        (with_route(default_route("x")), "\"x\" is no IP address"),
        (with_route(default_route("::1")), "::1 is not of the family of the route to 0.0.0.0/0"),
        (
            with_route(default_route("0.0.0.0")),
            "0.0.0.0 in the route to 0.0.0.0/0 is no address: leave it empty",
        ),
        (
            with_links(vec![wire::Link { addresses: vec![address("0.0.0.0/24")], ..named("a") }]),
            "0.0.0.0/24 is the address of no link",
        ),
        (with_route(wire::Route::new()), "\"\" is no network"),
        (with_sysctls(&[("kernel.panic", "1")]), "\"kernel.panic\" is no name of a net.* sysctl"),
        (with_sysctls(&[("net.ipv4.x", "1\n2")]), "\"1\\n2\" is no value of a sysctl"),
        (with_sysctls(&[("net.ipv4.x", "1"), ("net/ipv4/x", "2")]), "net/ipv4/x is set twice"),
    ] {
        assert_eq!(refused(request), text);
    }
    assert!(link_wait(60_001).is_err());
    assert_eq!((link_wait(0).unwrap(), link_wait(7).unwrap()), (LINK_WAIT, Duration::from_millis(7)));
}

#[test]
fn two_links_do_not_get_one_name() {
    let by_mac = |mac: &str, name: &str| wire::Link { mac: mac.into(), ..named(name) };
    let (one, other) = ("52:54:00:00:00:01", "52:54:00:00:00:02");
    assert!(wanted(&with_links(vec![by_mac(one, ""), by_mac(other, "")])).is_ok());
    assert!(wanted(&with_links(vec![by_mac(one, "a"), by_mac(other, "b"), named("c")])).is_ok());
    for links in [
        vec![by_mac(one, "a"), by_mac(one, "b")],
        vec![by_mac(one, "a"), by_mac(other, "a")],
        vec![by_mac(one, "a"), named("a")],
    ] {
        assert!(refused(with_links(links)).ends_with("is named twice"));
    }
}

#[test]
fn words_and_names_of_the_resolver_are_looked_at() {
    let host = |names: &[&str]| wire::ApplyRequest {
        hosts: vec![wire::Host {
            ip: "192.0.2.1".into(),
            names: names.iter().map(|name| name.to_string()).collect(),
            ..Default::default()
        }],
        ..Default::default()
    };
    assert!(wanted(&host(&["db"])).is_ok());
    assert_eq!(refused(host(&[])), "the host 192.0.2.1 has no name");
    assert_eq!(refused(host(&["a b"])), "\"a b\" is no name");
    assert_eq!(refused(host(&["x"; 33])), "33 names of a host are more than 32");
    let mut long = host(&[]);
    long.hosts[0].ip = "\u{1}".repeat(1 << 20);
    assert!(refused(long).len() < 1024);
}
