//! The guest's network, seen from its host: what the kernel's command line asks for, and what Network.Apply makes of a
//! NIC that is plugged in later. The machine is alone with its host in a network namespace of the test.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::sched::{unshare, CloneFlags};
use nix::unistd::geteuid;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{sleep, timeout};
use vminit_shim::api::network::{
    Address, ApplyRequest, GetRequest, GetResponse, Host, Link, Neighbour, Resolver, Route, RouteStatus,
    Sysctl,
};
use vminit_shim::api::ttrpc::{Code, Error};
use vminit_shim::spec;
use vminit_shim::vm::VmConfig;
use vminitd_test_support::calls::{brief, patient};
use vminitd_test_support::LIMIT;

use crate::machine::{build_folder, Machine};
use crate::observer::Observer;

const BOOT_NIC: &str = "52:54:00:00:00:01";
const LATER_NIC: &str = "52:54:00:00:00:02";
/// What the container serves.
const PAGE: &str = "served from the guest";
/// One try to connect: an address that nobody has is not refused, it is silent.
const TRY: Duration = Duration::from_secs(2);
/// How long the guest waits for the NIC that is plugged in after the call.
const NIC_WAIT_MS: u32 = 30_000;

#[tokio::test]
async fn a_static_address_and_a_nic_that_comes_changes_and_goes_carry_traffic() {
    if !geteuid().is_root() {
        eprintln!("skipped: a network namespace of its own needs root");
        return;
    }
    // Of this thread and what it starts: QEMU makes its taps in it, and all is gone with them.
    unshare(CloneFlags::CLONE_NEWNET).expect("make a network namespace");
    let Some(machine) = Machine::boot(with_nics).await else { return };
    host_link("tap0", &["192.0.2.1/24"]).await;
    host_link("tap1", &["198.51.100.1/24", "2001:db8::1/64"]).await;
    let observer = Observer::start(&machine).await;

    the_boot_configured_what_was_there(&machine, &observer).await;
    a_nic_is_configured_when_it_comes(&machine, &observer).await;
    its_configuration_changes(&machine, &observer).await;
    it_goes(&machine).await;
    another_name_leaves_what_the_boot_has_configured(&machine).await;

    observer.stop().await;
    machine.remove("web").await;
    machine.power_off().await;
}

/// One NIC from the start, and a port for another.
fn with_nics(config: &mut VmConfig) {
    config.append_extra = "ip=192.0.2.7::192.0.2.1:255.255.255.0::eth0:none:192.0.2.53".into();
    let taps = ["tap0", "tap1"].map(|tap| format!("tap,id={tap},ifname={tap},script=no,downscript=no"));
    for (option, value) in [
        ("-netdev", taps[0].clone()),
        ("-device", format!("virtio-net-pci,netdev=tap0,mac={BOOT_NIC}")),
        ("-netdev", taps[1].clone()),
        ("-device", "pcie-root-port,id=slot1,chassis=1,slot=1".to_owned()),
    ] {
        config.qemu_extra.extend([option.to_owned(), value]);
    }
}

async fn the_boot_configured_what_was_there(machine: &Machine, observer: &Observer<'_>) {
    let serve = format!("mkdir -p /www; echo '{PAGE}' > /www/index.html; exec httpd -f -p 80 -h /www");
    machine.start("web", &spec::container(&["/bin/sh", "-c", &serve])).await;
    served_at("192.0.2.7:80").await;
    let seen =
        "ping -c 1 127.0.0.1 >/dev/null; ping -c 1 192.0.2.1 >/dev/null; cat /proc/1/root/etc/resolv.conf";
    assert_eq!(observer.run(seen).await, "nameserver 192.0.2.53");
    let found = get(machine).await;
    assert_eq!(addresses(&found, BOOT_NIC), ["192.0.2.7/24"]);
    let route = found.routes.iter().find(|route| route.destination == "0.0.0.0/0").expect("a default route");
    assert_eq!((route.gateway.as_str(), route.link.as_str()), ("192.0.2.1", "eth0"));
    let boot_nic = found.links.iter().find(|link| link.mac == BOOT_NIC).expect("the NIC");
    assert!(boot_nic.up && boot_nic.running && boot_nic.counters.rx_packets > 0, "{boot_nic:?}");
}

async fn a_nic_is_configured_when_it_comes(machine: &Machine, observer: &Observer<'_>) {
    let mut link = later_nic(&["198.51.100.7/24", "2001:db8::7/64"]);
    link.mtu = 1400;
    link.routes = vec![
        route("203.0.113.0/24", "203.0.113.1"),
        route("203.0.113.1/32", ""),
        route("2001:db8:1::/48", "2001:db8::1"),
    ];
    link.neighbours =
        vec![Neighbour { address: "198.51.100.9".into(), mac: BOOT_NIC.into(), ..Default::default() }];
    let names = vec!["db".to_owned(), "db.example".to_owned()];
    let request = ApplyRequest {
        links: vec![link],
        sysctls: vec![Sysctl { name: "net.ipv4.ip_forward".into(), value: "1".into(), ..Default::default() }],
        resolver: Some(Resolver { search: vec!["example".into()], ..Default::default() }).into(),
        hosts: vec![Host { ip: "198.51.100.9".into(), names, ..Default::default() }],
        link_wait_ms: NIC_WAIT_MS,
        ..Default::default()
    };
    let nic = json!({
        "driver": "virtio-net-pci", "id": "nic", "bus": "slot1", "netdev": "tap1", "mac": LATER_NIC,
    });
    let plug = machine.vm.qmp("device_add", nic);
    let (applied, plugged) = tokio::join!(apply(machine, &request), plug);
    plugged.expect("plug the NIC in");
    applied.unwrap_or_else(|(code, text)| panic!("{code:?} {text}; the console:\n{}", machine.console()));
    apply(machine, &request).await.expect("the same again");

    served_at("198.51.100.7:80").await;
    served_at("[2001:db8::7]:80").await;
    let seen = "ping -c 1 198.51.100.1 >/dev/null; ping6 -c 1 2001:db8::1 >/dev/null
        cat /sys/class/net/lan0/mtu /proc/sys/net/ipv4/ip_forward /proc/1/root/etc/resolv.conf
        ip neigh show dev lan0; cat /proc/1/root/etc/hosts";
    let seen = observer.run(seen).await;
    assert!(seen.starts_with("1400\n1\nsearch example\n"), "{seen}");
    assert!(seen.contains("198.51.100.9 lladdr 52:54:00:00:00:01"), "{seen}");
    assert!(seen.contains("\n198.51.100.9 db db.example\n"), "{seen}");
    let found = get(machine).await;
    let routes: Vec<_> = found.routes.iter().filter(|route| route.link == "lan0").collect();
    let by = |destination: &str| routes.iter().find(|route| route.destination == destination);
    assert_eq!(by("203.0.113.0/24").expect("a route").gateway, "203.0.113.1");
    assert_eq!(by("2001:db8:1::/48").expect("a route").gateway, "2001:db8::1");
}

async fn its_configuration_changes(machine: &Machine, observer: &Observer<'_>) {
    let links = vec![later_nic(&["198.51.100.8/24", "2001:db8::8/64"])];
    apply(machine, &ApplyRequest { links, ..Default::default() }).await.expect("change");
    served_at("198.51.100.8:80").await;
    served_at("[2001:db8::8]:80").await;
    served_at("192.0.2.7:80").await;
    let found = get(machine).await;
    assert_eq!(addresses(&found, LATER_NIC), ["198.51.100.8/24", "2001:db8::8/64"]);
    assert!(found.routes.iter().all(|route| route.destination != "203.0.113.0/24"), "{:?}", found.routes);
    let seen = "cat /proc/sys/net/ipv4/ip_forward /proc/1/root/etc/resolv.conf";
    assert_eq!(observer.run(seen).await, "0\nnameserver 192.0.2.53");

    // One thing of it cannot be done.
    let mut link = later_nic(&["198.51.100.8/24", "2001:db8::8/64"]);
    link.routes = vec![route("203.0.113.0/24", "203.0.113.1"), route("10.0.0.0/8", "198.51.100.1")];
    let refused = apply(machine, &ApplyRequest { links: vec![link], ..Default::default() }).await;
    let (code, text) = refused.expect_err("nobody is at that gateway");
    assert_eq!(code, Code::FAILED_PRECONDITION);
    assert!(
        text.starts_with("set route to 203.0.113.0/24 of lan0: ") && !text.contains("10.0.0.0"),
        "{text}"
    );
    assert!(get(machine).await.routes.iter().any(|route| route.destination == "10.0.0.0/8"));
}

async fn it_goes(machine: &Machine) {
    machine.vm.qmp("device_del", json!({"id": "nic"})).await.expect("unplug the NIC");
    let deadline = Instant::now() + LIMIT;
    while get(machine).await.links.iter().any(|link| link.mac == LATER_NIC) {
        assert!(Instant::now() < deadline, "the NIC is still there");
    }
    let links = vec![later_nic(&[])];
    let wanted = ApplyRequest { links, link_wait_ms: 1, ..Default::default() };
    let (code, text) = apply(machine, &wanted).await.expect_err("it has gone");
    assert_eq!((code, text), (Code::NOT_FOUND, format!("link {LATER_NIC}: no such link")));
    apply(machine, &ApplyRequest::new()).await.expect("nothing is wanted of it");
    served_at("192.0.2.7:80").await;
}

async fn another_name_leaves_what_the_boot_has_configured(machine: &Machine) {
    let before = get(machine).await.routes;
    let renamed = Link { mac: BOOT_NIC.into(), name: "wan0".into(), ..Default::default() };
    apply(machine, &ApplyRequest { links: vec![renamed], ..Default::default() }).await.expect("rename");
    let found = get(machine).await;
    assert_eq!(addresses(&found, BOOT_NIC), ["192.0.2.7/24"]);
    let by = |routes: &[RouteStatus]| -> Vec<_> {
        routes.iter().map(|route| (route.destination.clone(), route.gateway.clone())).collect()
    };
    assert_eq!(by(&found.routes), by(&before));
    assert!(before.iter().any(|route| route.destination == "0.0.0.0/0"), "{before:?}");
    served_at("192.0.2.7:80").await;
}

fn later_nic(prefixes: &[&str]) -> Link {
    let address = |prefix: &&str| Address { prefix: prefix.to_string(), nodad: true, ..Default::default() };
    let addresses = prefixes.iter().map(address).collect();
    Link { mac: LATER_NIC.into(), name: "lan0".into(), addresses, ..Default::default() }
}

fn route(destination: &str, gateway: &str) -> Route {
    Route { destination: destination.into(), gateway: gateway.into(), ..Default::default() }
}

async fn apply(machine: &Machine, request: &ApplyRequest) -> Result<(), (Code, String)> {
    match machine.guest.client.network().apply(patient(), request).await {
        Ok(_) => Ok(()),
        Err(Error::RpcStatus(status)) => Err((status.code(), status.message)),
        Err(other) => panic!("{other}; the console:\n{}", machine.console()),
    }
}

async fn get(machine: &Machine) -> GetResponse {
    machine.guest.client.network().get(brief(), &GetRequest::new()).await.expect("Network.Get")
}

/// The addresses of a link that the kernel has not given it.
fn addresses(found: &GetResponse, mac: &str) -> Vec<String> {
    let link = found.links.iter().find(|link| link.mac == mac).expect("the link");
    let shown = link.addresses.iter().map(|address| address.prefix.clone());
    shown.filter(|prefix| !prefix.starts_with("fe80:")).collect()
}

/// Gives the host's end of a cable its addresses, at once, and brings it up.
async fn host_link(tap: &str, prefixes: &[&str]) {
    // Without duplicate detection, which would take seconds.
    std::fs::write(format!("/proc/sys/net/ipv6/conf/{tap}/accept_dad"), "0").expect("set accept_dad");
    ip(&["link", "set", tap, "up"]).await;
    for prefix in prefixes {
        ip(&["addr", "add", prefix, "dev", tap]).await;
    }
}

async fn ip(args: &[&str]) {
    let busybox = build_folder().expect("the machine was booted from it").join("busybox");
    let status = Command::new(busybox).arg("ip").args(args).status().await.expect("run ip");
    assert!(status.success(), "ip {args:?}");
}

/// Asks for the page from the host's side until it comes.
async fn served_at(address: &str) {
    let address: SocketAddr = address.parse().expect("an address");
    let deadline = Instant::now() + LIMIT;
    loop {
        let answer = timeout(TRY, fetch(address)).await;
        match answer {
            Ok(Ok(text)) if text.contains(PAGE) => return,
            answer => assert!(Instant::now() < deadline, "{address}: {answer:?}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn fetch(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
