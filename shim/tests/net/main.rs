//! Facts about a container's network on the host, as root, in network namespaces of the tests' own: what is read, that
//! frames pass both ways, and that nothing is left.

mod guest;
mod world;

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, io};

use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::unistd::{read, write};
use tokio::time::timeout;
use vminit_shim::api::network::{self, Scope, Switch};
use vminit_shim::net::{unwire, user_mode, NetError, Nic, Survey};
use vminit_shim::state::Wiring;
use world::World;

/// What all of this may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
const MAC: &str = "02:00:5e:00:53:07";
/// Where the IPv4 header begins in what is read of a tap: behind a `virtio_net_hdr` and an Ethernet header.
const IP: usize = 10 + 14;

fn wiring(survey: &Survey) -> Wiring {
    let (taps, qdiscs) = survey.wiring();
    Wiring { namespace: None, taps, qdiscs }
}

/// What the guest is to have of the only interface there is, with its routes in the order of their destinations.
async fn only_link(world: &World) -> network::Link {
    let request = world.survey().await.expect("survey").apply(&BTreeMap::new());
    let [link] = request.links.try_into().expect("one link");
    let mut link: network::Link = link;
    link.routes.sort_by(|a, b| a.destination.cmp(&b.destination));
    link
}

fn address(prefix: &str, nodad: bool) -> network::Address {
    network::Address { prefix: prefix.into(), nodad, ..Default::default() }
}

fn route(destination: &str, gateway: &str, metric: u32) -> network::Route {
    network::Route { destination: destination.into(), gateway: gateway.into(), metric, ..Default::default() }
}

fn in_ipv4(route: network::Route, scope: Scope) -> network::Route {
    network::Route { scope: scope.into(), ..route }
}

#[tokio::test]
async fn the_guest_gets_what_somebody_has_set() {
    let world = World::new();
    let script = "ip link set eth0 mtu 1400
        ip addr add 192.0.2.7/24 dev eth0; ip addr add 2001:db8::7/64 dev eth0 nodad
        ip route add default via 192.0.2.1; ip route add 198.51.100.0/24 dev eth0 src 192.0.2.7 metric 50
        ip route add 203.0.113.0/24 via 10.9.9.9 dev eth0 onlink
        ip -6 route add default via fe80::1 dev eth0
        ip neigh add 192.0.2.1 lladdr 02:00:5e:00:53:01 dev eth0 nud permanent
        ip neigh add 192.0.2.2 lladdr 02:00:5e:00:53:02 dev eth0 nud stale";
    world.veth("eth0", MAC, script).await;
    let neighbour = network::Neighbour {
        address: "192.0.2.1".into(),
        mac: "02:00:5e:00:53:01".into(),
        ..Default::default()
    };
    let by_link = network::Route { source: "192.0.2.7".into(), ..route("198.51.100.0/24", "", 50) };
    let on_link = network::Route { on_link: true, ..route("203.0.113.0/24", "10.9.9.9", 0) };
    let expected = network::Link {
        mac: MAC.into(),
        name: "eth0".into(),
        mtu: 1400,
        ipv6: Switch::SWITCH_ON.into(),
        accept_ra: Switch::SWITCH_ON.into(),
        addresses: vec![address("192.0.2.7/24", false), address("2001:db8::7/64", true)],
        routes: vec![
            in_ipv4(route("0.0.0.0/0", "192.0.2.1", 0), Scope::SCOPE_UNIVERSE),
            in_ipv4(by_link, Scope::SCOPE_LINK),
            in_ipv4(on_link, Scope::SCOPE_UNIVERSE),
            route("::/0", "fe80::1", 1024),
        ],
        neighbours: vec![neighbour],
        ..Default::default()
    };
    assert_eq!(only_link(&world).await, expected);
}

#[tokio::test]
async fn the_other_end_of_a_point_to_point_address_is_a_route() {
    let world = World::new();
    world.veth("eth0", MAC, "ip addr add 192.0.2.7 peer 198.51.100.9/24 dev eth0").await;
    let link = only_link(&world).await;
    assert_eq!(link.addresses, [address("192.0.2.7/32", false)]);
    let source = "192.0.2.7".to_owned();
    assert_eq!(link.routes, [network::Route { source, ..route("198.51.100.0/24", "", 0) }]);
}

#[tokio::test]
async fn ipv6_is_off_where_it_was() {
    let world = World::new();
    world.veth("eth0", MAC, "echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6").await;
    assert_eq!(only_link(&world).await.ipv6, Switch::SWITCH_OFF.into());
}

#[tokio::test]
async fn what_the_guest_cannot_have_is_named() {
    let world = World::new();
    let script = "ip addr add 192.0.2.7/24 dev eth0
        ip route add blackhole 198.51.100.0/24
        ip route add 198.18.0.0/15 via inet6 fe80::1 dev eth0
        ip route add 203.0.113.0/24 nexthop via 192.0.2.1 nexthop via 192.0.2.2";
    world.veth("eth0", MAC, script).await;
    let survey = world.survey().await.expect("survey");
    let [other_family, blackhole, hops] = survey.left_out() else { panic!("{:?}", survey.left_out()) };
    assert!(other_family.starts_with("route to 198.18.0.0/15: a gateway of another"), "{other_family}");
    assert!(blackhole.starts_with("route to 198.51.100.0/24: "), "{blackhole}");
    assert!(hops.starts_with("route to 203.0.113.0/24: of several hops"), "{hops}");
    let link = only_link(&world).await;
    assert_eq!(link.routes, [in_ipv4(route("203.0.113.0/24", "192.0.2.1", 0), Scope::SCOPE_UNIVERSE)]);
}

#[tokio::test]
async fn a_namespace_with_nothing_in_use_is_empty() {
    let world = World::new();
    world.inside.sh("ip link set lo up; ip tuntap add idle0 mode tun").await;
    let survey = world.survey().await.expect("survey");
    assert!(survey.is_empty());
    assert_eq!(survey.connect().await.expect("connect nothing").len(), 0);
}

#[tokio::test]
async fn an_interface_that_carries_no_ethernet_is_refused() {
    let world = World::new();
    world.inside.sh("ip tuntap add tunnel0 mode tun; ip link set tunnel0 up").await;
    let refusal = world.survey().await.expect_err("a tunnel was surveyed").to_string();
    assert_eq!(refusal, "join interface tunnel0: tun is no Ethernet");
}

#[tokio::test]
async fn sysctls_are_handed_on() {
    let world = World::new();
    let sysctls = BTreeMap::from([("net.ipv4.ip_forward".to_owned(), "1".to_owned())]);
    let request = world.survey().await.expect("survey").apply(&sysctls);
    let names: Vec<_> = request.sysctls.iter().map(|sysctl| (&*sysctl.name, &*sysctl.value)).collect();
    assert_eq!(names, [("net.ipv4.ip_forward", "1")]);
}

/// The next frame of the tap that has this text in it, as it was read.
fn frame_with(tap: &OwnedFd, text: &[u8]) -> Vec<u8> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).expect("it is less than a day");
        let ready = poll(&mut [PollFd::new(tap.as_fd(), PollFlags::POLLIN)], left).expect("wait for a tap");
        assert_eq!(ready, 1, "the frame comes");
        let mut frame = vec![0; 2048];
        let length = read(tap, &mut frame).expect("read a tap");
        frame.truncate(length);
        if frame.windows(text.len()).any(|part| part == text) {
            return frame;
        }
    }
}

/// The datagram of a frame, sent back. All checksums stay right: they are sums.
fn answer(mut frame: Vec<u8>) -> Vec<u8> {
    let swap = |frame: &mut Vec<u8>, at: usize, length: usize| {
        let (first, second) = frame[at..at + 2 * length].split_at_mut(length);
        first.swap_with_slice(second);
    };
    swap(&mut frame, 10, 6);
    swap(&mut frame, IP + 12, 4);
    swap(&mut frame, IP + 20, 2);
    frame
}

/// Sends a datagram to the container from outside, answers it at the tap, and sees the answer outside.
fn datagrams_pass(outside: &UdpSocket, nic: &Nic) {
    let question = b"a question".as_slice();
    outside.connect("192.0.2.7:7").expect("choose a peer");
    outside.send(question).expect("send a datagram");
    let frame = frame_with(&nic.tap, question);
    assert_eq!(write(&nic.tap, &answer(frame.clone())).expect("write to a tap"), frame.len());
    outside.set_read_timeout(Some(PATIENCE)).expect("set a deadline");
    let mut answer = [0; 64];
    let length = outside.recv(&mut answer).expect("receive an answer");
    assert_eq!(&answer[..length], question);
}

#[tokio::test]
async fn frames_pass_both_ways_between_a_veth_and_its_tap() {
    let world = World::new();
    world.veth("eth0", MAC, "ip addr add 192.0.2.7/24 dev eth0").await;
    let neighbour = format!("ip neigh add 192.0.2.7 lladdr {MAC} dev eth0 nud permanent");
    world.outside.sh(&format!("ip addr add 192.0.2.1/24 dev eth0; {neighbour}")).await;
    let nics = world.survey().await.expect("survey").connect().await.expect("connect");
    let nic = nics.first().expect("there is a NIC");
    assert_eq!((&*nic.mac, nic.mtu, &*nic.name), (MAC, 1500, "eth0"));
    datagrams_pass(&world.outside.udp("192.0.2.1:0"), nic);
}

#[tokio::test]
async fn frames_pass_both_ways_between_a_macvlan_and_its_tap() {
    let world = World::new();
    let inside = world.inside.path();
    let script = format!(
        "ip link add wire0 type veth peer name wire1; ip link set wire0 up; ip link set wire1 up
         ip link add near0 link wire0 type macvlan mode bridge; ip link set near0 up
         ip addr add 192.0.2.1/24 dev near0; ip neigh add 192.0.2.7 lladdr {MAC} dev near0 nud permanent
         ip link add eth0 link wire0 address {MAC} netns {} type macvlan mode bridge",
        inside.display()
    );
    world.outside.sh(&script).await;
    world.inside.sh("ip link set eth0 up; ip addr add 192.0.2.7/24 dev eth0").await;
    let nics = world.survey().await.expect("survey").connect().await.expect("connect");
    datagrams_pass(&world.outside.udp("192.0.2.1:0"), nics.first().expect("there is a NIC"));
}

#[tokio::test]
async fn a_tap_is_like_its_interface_but_for_its_index_and_addresses() {
    let world = World::new();
    world.veth("eth0", MAC, "ip link set eth0 mtu 1400").await;
    world.veth("eth1", "02:00:5e:00:53:08", "ip link set eth1 mtu 1000").await;
    let survey = world.survey().await.expect("survey");
    let nics = survey.connect().await.expect("connect");
    let links = world.inside.sh("ip -o link | cut -d' ' -f 1,2,4,5").await;
    let numbered = |name: &str| links.lines().position(|line| line.contains(name)).expect("it is there");
    let (taps, _) = survey.wiring();
    for (tap, nic) in taps.iter().zip(&nics) {
        assert!(numbered(tap) > numbered("eth0") && numbered(tap) > numbered("eth1"), "{links}");
        let mtu = format!("{tap}: mtu {}", nic.mtu);
        assert!(links.contains(&mtu), "{links}");
        assert_eq!(world.inside.sh(&format!("ip -o addr show dev {tap}")).await, "");
    }
}

#[tokio::test]
async fn an_interface_is_not_joined_twice() {
    let world = World::new();
    world.veth("eth0", MAC, "").await;
    let first = world.survey().await.expect("survey");
    let second = world.survey().await.expect("survey");
    let _nics = first.connect().await.expect("connect");
    let refusal = world.survey().await.expect_err("it was surveyed");
    assert!(matches!(refusal, NetError::Taken(ref name) if name == "eth0"), "{refusal}");
    let wires = world.inside.wires().await;
    second.connect().await.expect_err("it was joined");
    assert_eq!(world.inside.wires().await, wires);
}

#[tokio::test]
async fn unwiring_leaves_neither_tap_nor_qdisc() {
    let world = World::new();
    world.veth("eth0", MAC, "").await;
    let survey = world.survey().await.expect("survey");
    let nics = survey.connect().await.expect("connect");
    assert_eq!(world.inside.wires().await.lines().count(), 3, "one tap, two qdiscs");
    for _ in 0..2 {
        unwire(&world.inside.path(), &wiring(&survey)).await.expect("unwire");
        assert_eq!(world.inside.wires().await, "");
    }
    drop(nics);
    world.survey().await.expect("survey once more").connect().await.expect("connect once more");
}

#[tokio::test]
async fn there_is_nothing_to_unwire_in_a_namespace_that_is_gone() {
    let world = World::new();
    world.veth("eth0", MAC, "").await;
    let wiring = wiring(&world.survey().await.expect("survey"));
    let unmounted = tempfile::NamedTempFile::new().expect("make a file");
    unwire(unmounted.path(), &wiring).await.expect("unwire a file that is no namespace any more");
    unwire(Path::new("/proc/4194305/ns/net"), &wiring).await.expect("unwire where no process is");
}

#[tokio::test]
async fn a_connect_that_fails_half_way_leaves_nothing() {
    let world = World::new();
    world.veth("eth0", MAC, "").await;
    world.veth("eth1", "02:00:5e:00:53:08", "").await;
    let survey = world.survey().await.expect("survey");
    let (taps, _) = survey.wiring();
    let theirs = format!("{}\n", taps[1]);
    world.inside.sh(&format!("ip tuntap add {} mode tap", taps[1])).await;
    let error = survey.connect().await.expect_err("it was connected");
    assert!(error.to_string().contains(&taps[1]), "{error}");
    assert_eq!(world.inside.wires().await, theirs, "only what was there");
}

#[tokio::test]
async fn an_ingress_qdisc_that_came_after_the_survey_is_left_alone() {
    let world = World::new();
    world.veth("eth0", MAC, "").await;
    let survey = world.survey().await.expect("survey");
    world.inside.sh("tc qdisc add dev eth0 ingress").await;
    let wires = world.inside.wires().await;
    survey.connect().await.expect_err("it was connected");
    assert_eq!(world.inside.wires().await, wires);
}

#[tokio::test]
async fn no_thread_is_left_in_a_namespace() {
    let world = World::new();
    world.veth("eth0", MAC, "").await;
    let survey = world.survey().await.expect("survey");
    survey.connect().await.expect("connect");
    unwire(&world.inside.path(), &wiring(&survey)).await.expect("unwire");
    let namespace = fs::read_link(world.inside.path()).expect("read a link");
    let there = || -> io::Result<bool> {
        for task in fs::read_dir("/proc/self/task")? {
            // A thread may end between the two.
            if fs::read_link(task?.path().join("ns/net")).is_ok_and(|link| link == namespace) {
                return Ok(true);
            }
        }
        Ok(false)
    };
    let gone = async {
        while there().expect("list the threads") {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, gone).await.expect("the threads end");
}

#[test]
fn user_mode_has_one_link_with_both_families_and_a_resolver() {
    let (nic, request) = user_mode(&BTreeMap::new());
    let [link] = &request.links[..] else { panic!("{request}") };
    assert_eq!((&link.mac, link.mtu), (&nic.mac, 1500));
    assert_eq!(link.addresses, [address("10.0.2.15/24", false), address("fec0::15/64", true)]);
    assert_eq!(link.routes, [route("0.0.0.0/0", "10.0.2.2", 0), route("::/0", "fec0::2", 0)]);
    assert_eq!(request.resolver.nameservers, ["10.0.2.3"]);
}
