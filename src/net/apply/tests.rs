//! Plans carried out, in networks of their own: with pairs of links, which are the only ones every kernel has.

use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::net::files::{Host, Resolver, Word};
use crate::net::types::{parse_address, LinkName, Mac, Prefix};
use crate::net::wanted::{Scope, WantedAddress, WantedLink, WantedRoute, Which};
use crate::sys::testing::in_private_network;

/// Nothing a test waits for takes so long.
const LONG: Duration = Duration::from_secs(20);

struct Rig {
    kernel: Kernel,
    applied: Applied,
    etc: TempDir,
}

/// A network with the pair `eth0` and `peer0`, both down.
fn with_pair(body: impl FnOnce(Rig) + Send) {
    in_private_network(|| {
        let mut kernel = Kernel::open().unwrap();
        kernel.add_link("eth0", "veth", "peer0");
        body(Rig { kernel, applied: Applied::default(), etc: tempfile::tempdir().unwrap() });
    });
}

impl Rig {
    /// What could not be done, in words.
    fn apply(&mut self, wanted: &Wanted) -> Vec<String> {
        let failures = apply(wanted, &mut self.applied, self.etc.path(), Instant::now());
        failures.iter().map(|failure| failure.to_string()).collect()
    }

    /// The same for what can be done, and is nothing to do a second time.
    fn applies(&mut self, wanted: &Wanted) {
        assert_eq!(self.apply(wanted), [""; 0]);
        let (current, target) = look(&mut self.kernel, wanted, &self.applied.owned).unwrap();
        assert_eq!(plan(&current, &self.applied.owned, &target), []);
    }

    fn link(&mut self, name: &str) -> Link {
        let links = self.kernel.links().unwrap();
        links.into_iter().find(|link| link.name == name).unwrap_or_else(|| panic!("no link {name}"))
    }

    /// The addresses of a link, without those that the kernel gave it.
    fn addresses(&mut self, name: &str) -> Vec<String> {
        let link = self.link(name).index;
        let all = self.kernel.addresses().unwrap().into_iter();
        let of_link = all.map(|found| found.address).filter(|address| address.link == link);
        let mut shown: Vec<String> = of_link.map(|address| address.prefix.to_string()).collect();
        shown.retain(|address| !address.starts_with("fe80:"));
        shown.sort();
        shown
    }

    /// The routes that have a gateway or a metric of ours.
    fn routes(&mut self) -> Vec<String> {
        let all = self.kernel.routes().unwrap().into_iter().filter(|route| route.gateway.is_some());
        let mut shown: Vec<String> = all
            .map(|route| {
                format!("{} via {} metric {}", route.destination, route.gateway.unwrap(), route.metric)
            })
            .collect();
        shown.sort();
        shown
    }

    fn file(&self, name: &str) -> String {
        files::read(&self.etc.path().join(name)).unwrap()
    }
}

fn named(name: &str) -> WantedLink {
    WantedLink::named(LinkName::parse(name).unwrap())
}

fn address(text: &str) -> WantedAddress {
    WantedAddress { prefix: Prefix::parse(text).unwrap(), nodad: true }
}

fn via(destination: &str, gateway: &str) -> WantedRoute {
    WantedRoute::via(Prefix::parse_network(destination).unwrap(), parse_address(gateway).unwrap())
}

/// The same with all that a route can say.
fn in_full(destination: &str, gateway: &str, source: &str, metric: u32) -> WantedRoute {
    let source = Some(parse_address(source).unwrap());
    WantedRoute { source, metric, on_link: true, ..via(destination, gateway) }
}

fn with_links(links: Vec<WantedLink>) -> Wanted {
    Wanted { links, ..Wanted::default() }
}

/// Both families, with a gateway off its subnet, in an order that cannot be carried out as it stands.
fn usual() -> WantedLink {
    WantedLink {
        mtu: Some(1400),
        addresses: vec![address("192.0.2.7/24"), address("2001:db8::7/64")],
        routes: vec![
            via("0.0.0.0/0", "198.51.100.1"),
            via("10.0.0.0/8", "192.0.2.1"),
            WantedRoute::direct(Prefix::parse("198.51.100.1").unwrap()),
            via("::/0", "2001:db8::1"),
        ],
        neighbours: vec![(parse_address("192.0.2.1").unwrap(), Mac([2, 0, 0, 0, 0, 1]))],
        ..named("eth0")
    }
}

#[test]
fn all_of_it_is_set_and_a_second_time_changes_nothing() {
    with_pair(|mut rig| {
        rig.applies(&with_links(vec![usual(), named("peer0")]));
        let link = rig.link("eth0");
        assert!(link.up && link.running && link.mtu == 1400 && link.kind == "veth", "{link:?}");
        assert_eq!(rig.addresses("eth0"), ["192.0.2.7/24", "2001:db8::7/64"]);
        assert_eq!(
            rig.routes(),
            [
                "0.0.0.0/0 via 198.51.100.1 metric 0",
                "10.0.0.0/8 via 192.0.2.1 metric 0",
                "::/0 via 2001:db8::1 metric 1024"
            ]
        );
        assert_eq!(rig.kernel.neighbours().unwrap().len(), 1);
        let found = rig.kernel.addresses().unwrap();
        let ours =
            found.iter().find(|found| found.address.prefix == Prefix::parse("2001:db8::7/64").unwrap());
        assert!(ours.is_some_and(|found| !found.tentative), "{found:?}");
    });
}

#[test]
fn routes_are_set_and_found_again_with_all_that_they_say() {
    with_pair(|mut rig| {
        let mut link = usual();
        let of_scope = |text: &str, scope| {
            let direct = WantedRoute::direct(Prefix::parse(text).unwrap());
            WantedRoute { scope: Some(scope), ..direct }
        };
        link.routes = vec![
            in_full("172.16.0.0/12", "198.51.100.77", "192.0.2.7", 7),
            in_full("2001:db8:2::/48", "fe80::99", "2001:db8::7", 5),
            of_scope("198.51.100.1", Scope::Host),
            of_scope("198.51.100.2", Scope::Link),
            of_scope("198.51.100.3", Scope::Universe),
            of_scope("2001:db8:3::1", Scope::Link),
        ];
        rig.applies(&with_links(vec![link.clone(), named("peer0")]));
        assert_eq!(
            rig.routes(),
            ["172.16.0.0/12 via 198.51.100.77 metric 7", "2001:db8:2::/48 via fe80::99 metric 5"]
        );
        link.routes.truncate(1);
        rig.applies(&with_links(vec![link, named("peer0")]));
        assert_eq!(rig.routes(), ["172.16.0.0/12 via 198.51.100.77 metric 7"]);
    });
}

#[test]
fn what_is_wanted_no_more_goes_and_what_was_there_before_stays() {
    with_pair(|mut rig| {
        let index = rig.link("eth0").index;
        rig.kernel.set_up(index, true).unwrap();
        let before =
            super::super::entry::Address { link: index, prefix: Prefix::parse("203.0.113.9/24").unwrap() };
        rig.kernel.add_address(&before, false).unwrap();

        let mut link = usual();
        link.addresses.push(address("203.0.113.9/24"));
        rig.applies(&with_links(vec![link.clone(), named("peer0")]));
        link.addresses = vec![address("192.0.2.8/24")];
        link.routes = vec![via("0.0.0.0/0", "192.0.2.2")];
        link.neighbours.clear();
        rig.applies(&with_links(vec![link, named("peer0")]));
        assert_eq!(rig.addresses("eth0"), ["192.0.2.8/24", "203.0.113.9/24"]);
        assert_eq!(rig.routes(), ["0.0.0.0/0 via 192.0.2.2 metric 0"]);
        assert_eq!(rig.kernel.neighbours().unwrap(), []);

        rig.applies(&Wanted::default());
        assert_eq!(rig.addresses("eth0"), ["203.0.113.9/24"]);
        assert_eq!(rig.routes(), [""; 0]);
        assert!(rig.link("eth0").up && !rig.link("peer0").up, "eth0 was up before, peer0 was not");
        assert_eq!(rig.applied.owned, Owned::default());
    });
}

#[test]
fn a_link_is_renamed_while_it_is_up_and_keeps_all_it_has() {
    with_pair(|mut rig| {
        let mac = rig.link("eth0").mac.unwrap();
        let called = |name: &str| WantedLink {
            which: Which::Mac(mac),
            name: Some(LinkName::parse(name).unwrap()),
            ..usual()
        };
        for name in ["eth0", "lan0", "eth0.100"] {
            rig.applies(&with_links(vec![called(name), named("peer0")]));
            assert_eq!(rig.addresses(name), ["192.0.2.7/24", "2001:db8::7/64"]);
            assert_eq!(rig.routes().len(), 3);
        }
    });
}

#[test]
fn links_change_names_with_one_another_but_do_not_take_that_of_a_third() {
    with_pair(|mut rig| {
        let (one, other) = (rig.link("eth0"), rig.link("peer0"));
        let called = |link: &Link, name: &str| WantedLink {
            which: Which::Mac(link.mac.unwrap()),
            name: Some(LinkName::parse(name).unwrap()),
            ..named("x")
        };
        rig.applies(&with_links(vec![called(&one, "peer0"), called(&other, "eth0")]));
        assert_eq!((rig.link("peer0").index, rig.link("eth0").index), (one.index, other.index));

        let failed = rig.apply(&with_links(vec![called(&one, "lo"), called(&other, "wan0")]));
        assert_eq!(failed.len(), 1);
        assert!(failed[0].starts_with("rename peer0 to lo: File exists"), "{failed:?}");
        assert_eq!((rig.link("wan0").index, rig.link("peer0").up), (other.index, true));
    });
}

#[test]
fn what_fails_is_named_and_the_rest_is_done() {
    with_pair(|mut rig| {
        let mut link = usual();
        link.routes.push(via("203.0.113.0/24", "203.0.113.1"));
        link.mtu = Some(65_536);
        let failed = rig.apply(&with_links(vec![link, named("peer0"), named("absent0")]));
        let begins = |text: &str| failed.iter().any(|failure| failure.starts_with(text));
        assert_eq!(failed.len(), 3, "{failed:?}");
        assert!(begins("set mtu 65536 of eth0: Invalid argument"), "{failed:?}");
        assert!(begins("set route to 203.0.113.0/24 of eth0: Network is unreachable"), "{failed:?}");
        assert!(begins("link absent0: no such link"), "{failed:?}");
        assert_eq!(rig.routes().len(), 3);
    });
}

#[test]
fn a_link_that_went_is_no_failure_unless_it_is_wanted() {
    with_pair(|mut rig| {
        rig.applies(&with_links(vec![usual(), named("peer0"), named("lo")]));
        let index = rig.link("eth0").index;
        rig.kernel.remove_link(index);
        assert_eq!(rig.apply(&with_links(vec![usual(), named("lo")])), ["link eth0: no such link"]);
        rig.applies(&with_links(vec![named("lo")]));
    });
}

#[test]
fn a_link_that_comes_later_is_waited_for() {
    with_pair(|mut rig| {
        let wanted =
            with_links(vec![WantedLink { addresses: vec![address("192.0.2.7/24")], ..named("late0") }]);
        let (etc, applied) = (rig.etc.path(), &mut rig.applied);
        let failures = thread::scope(|scope| {
            // It is in the same network as the thread that starts it.
            let waiting = scope.spawn(|| apply(&wanted, applied, etc, Instant::now() + LONG).len());
            rig.kernel.add_link("late0", "veth", "late1");
            waiting.join().unwrap()
        });
        assert_eq!(failures, 0);
        assert_eq!(rig.addresses("late0"), ["192.0.2.7/24"]);
    });
}

#[test]
fn a_link_that_does_not_come_is_given_up_at_the_deadline() {
    with_pair(|mut rig| {
        let (begin, wait) = (Instant::now(), Duration::from_millis(50));
        let failures =
            apply(&with_links(vec![named("never0")]), &mut rig.applied, rig.etc.path(), begin + wait);
        assert_eq!(failures.len(), 1);
        assert!(begin.elapsed() >= wait);
    });
}

#[test]
fn settings_come_before_and_after_the_links_and_go_back_to_what_they_were() {
    with_pair(|mut rig| {
        let forward = SysctlName::parse("net.ipv4.ip_forward").unwrap();
        let before = forward.read().unwrap();
        let value = if before.trim() == "1" { "0" } else { "1" };
        let mut wanted = with_links(vec![WantedLink { ipv6: Some(false), ..named("eth0") }]);
        wanted.sysctls.push((forward.clone(), value.to_owned()));
        if forward.write(before.trim()).is_err() {
            eprintln!("skipped: the settings of the network are read-only here");
            return;
        }
        rig.applies(&wanted);
        let of_eth0 = SysctlName::parse("net.ipv6.conf.eth0.disable_ipv6").unwrap();
        assert_eq!((of_eth0.read().unwrap().trim(), forward.read().unwrap().trim()), ("1", value));
        rig.applies(&Wanted::default());
        assert_eq!((of_eth0.read().unwrap().trim(), forward.read().unwrap()), ("0", before));
        assert_eq!(rig.applied.owned, Owned::default());

        wanted.sysctls = vec![(SysctlName::parse("net.ipv4.no_such").unwrap(), "1".to_owned())];
        let failed = rig.apply(&wanted);
        assert!(
            failed.len() == 1 && failed[0].starts_with("set net/ipv4/no_such: No such file"),
            "{failed:?}"
        );
    });
}

#[test]
fn the_files_of_the_resolver_are_written_and_go_back_to_what_they_were() {
    with_pair(|mut rig| {
        files::write(&rig.etc.path().join("resolv.conf"), "nameserver 9.9.9.9\n").unwrap();
        files::write(&rig.etc.path().join("hosts"), "127.0.0.1 localhost\n").unwrap();
        let name = |text: &str| vec![Word::parse(text).unwrap()];
        let address = parse_address("192.0.2.1").unwrap();
        let resolver = |search: &str| Some(Resolver { search: name(search), ..Resolver::default() });
        let hosts = vec![Host { address, names: name("db") }];
        rig.applies(&Wanted { resolver: resolver("a"), hosts: hosts.clone(), ..Wanted::default() });
        rig.applies(&Wanted { resolver: resolver("b"), hosts, ..Wanted::default() });
        assert_eq!(rig.file("resolv.conf"), "search b\n");
        assert!(rig.file("hosts").starts_with("127.0.0.1 localhost\n"));
        assert!(rig.file("hosts").contains("\n192.0.2.1 db\n"));
        rig.applies(&Wanted::default());
        assert_eq!(rig.file("resolv.conf"), "nameserver 9.9.9.9\n");
        assert_eq!(rig.file("hosts"), "127.0.0.1 localhost\n");
    });
}

#[test]
fn parameters_of_the_command_line_configure_two_devices() {
    with_pair(|mut rig| {
        let settings = super::super::Settings {
            ip: ["192.0.2.7::198.51.100.1:255.255.255.0::eth0:none:9.9.9.9", "203.0.113.7:::16::peer0"]
                .map(str::to_owned)
                .to_vec(),
            metadata: true,
            wait: Duration::ZERO,
            etc: rig.etc.path().to_owned(),
        };
        super::super::configure(&settings, |failure| panic!("{failure}"));
        // Again: what is there already is no failure.
        super::super::configure(&settings, |failure| panic!("{failure}"));
        assert_eq!(rig.addresses("eth0"), ["192.0.2.7/24"]);
        assert_eq!(rig.addresses("peer0"), ["203.0.113.7/16"]);
        assert_eq!(
            rig.routes(),
            ["0.0.0.0/0 via 198.51.100.1 metric 0", "169.254.169.254/32 via 198.51.100.1 metric 0"]
        );
        assert_eq!(rig.file("resolv.conf"), "nameserver 9.9.9.9\n");
    });
}

#[test]
fn a_setting_is_emptied_by_an_empty_value() {
    with_pair(|mut rig| {
        let ports = SysctlName::parse("net.ipv4.ip_local_reserved_ports").unwrap();
        ports.write("8080").unwrap();
        rig.applies(&Wanted { sysctls: vec![(ports.clone(), String::new())], ..Wanted::default() });
        assert_eq!(ports.read().as_deref(), Some("\n"));
        rig.applies(&Wanted::default());
        assert_eq!(ports.read().as_deref(), Some("8080\n"));
    });
}

#[test]
fn a_link_that_is_renamed_keeps_what_others_have_set() {
    // In one go, as newer kernels do it, and by way of a link that is down.
    let in_one: fn(&mut Rig) = |rig| {
        let mac = rig.link("eth0").mac.unwrap();
        let name = Some(LinkName::parse("net0").unwrap());
        rig.applies(&with_links(vec![WantedLink { which: Which::Mac(mac), name, ..named("any") }]));
    };
    let down: fn(&mut Rig) = |rig| {
        let link = rig.link("eth0").index;
        rename_down(&mut rig.kernel, link, &LinkName::parse("net0").unwrap()).unwrap();
    };
    for rename in [in_one, down] {
        with_pair(|mut rig| {
            // Of another Apply, which this one knows nothing of.
            rig.applies(&with_links(vec![usual(), named("peer0")]));
            rig.applied = Applied::default();
            let before = (rig.addresses("eth0"), rig.routes(), rig.kernel.neighbours().unwrap());
            rename(&mut rig);
            assert_eq!((rig.addresses("net0"), rig.routes(), rig.kernel.neighbours().unwrap()), before);
            assert!(rig.link("net0").up);
        });
    }
}

#[test]
fn an_address_that_goes_takes_no_other_of_its_subnet_along() {
    with_pair(|mut rig| {
        let with = |own: &[&str]| {
            let addresses = own.iter().map(|text| address(text)).collect();
            with_links(vec![WantedLink { addresses, ..named("eth0") }, named("peer0")])
        };
        rig.applies(&with(&["192.0.2.7/24", "192.0.2.8/24"]));
        let (link, prefix) = (rig.link("eth0").index, Prefix::parse("192.0.2.9/24").unwrap());
        rig.kernel.add_address(&Address { link, prefix }, false).unwrap();
        rig.applies(&with(&[]));
        assert_eq!(rig.addresses("eth0"), ["192.0.2.9/24"]);
    });
}

#[test]
fn what_is_undone_by_something_else_that_was_asked_for_is_told() {
    with_pair(|mut rig| {
        let off = (SysctlName::parse("net.ipv6.conf.eth0.disable_ipv6").unwrap(), "1".to_owned());
        let link =
            WantedLink { ipv6: Some(true), addresses: vec![address("2001:db8::7/64")], ..named("eth0") };
        let wanted = Wanted { sysctls: vec![off], ..with_links(vec![link]) };
        assert_eq!(rig.apply(&wanted), ["set address 2001:db8::7/64 of eth0: it did not stay"]);
    });
}
