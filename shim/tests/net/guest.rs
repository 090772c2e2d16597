//! A real guest that was told what a survey says, or user mode: traffic reaches it, and it reaches others. With the
//! artefacts of `./taskw image`; without them (`VMINITD_BUILD`, or `build/` at the root of the repository) these tests
//! say so and pass.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{fcntl, FcntlArg, FdFlag};
use nix::sched::{unshare, CloneFlags};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::process::Command;
use vminit_shim::api::containerd::api::Mount;
use vminit_shim::api::network::ApplyRequest;
use vminit_shim::client::{context, Container, Guest};
use vminit_shim::net::user_mode;
use vminit_shim::spec;
use vminit_shim::vm::{Accel, Disk, Vm, VmConfig};

use crate::world::World;
use crate::{MAC, PATIENCE};

/// For a machine in emulation.
const BOOT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_guest_answers_at_the_addresses_of_its_namespace() {
    let world = World::new();
    let build = build();
    let script = "ip link set eth0 mtu 1400; ip addr add 192.0.2.7/24 dev eth0
        ip addr add 2001:db8::7/64 dev eth0 nodad; ip route add default via 192.0.2.1";
    world.veth("eth0", MAC, script).await;
    let script = "ip link set eth0 mtu 1400; ip addr add 192.0.2.1/24 dev eth0
        ip addr add 2001:db8::1/64 dev eth0 nodad; ip link set lo up; ip addr add 198.51.100.1/32 dev lo";
    world.outside.sh(script).await;
    let survey = world.survey().await.expect("survey");
    let nics = survey.connect().await.expect("connect");
    let dir = tempfile::tempdir().expect("make a folder");
    // QEMU inherits the tap.
    fcntl(&nics[0].tap, FcntlArg::F_SETFD(FdFlag::empty())).expect("let a tap be inherited");
    let netdev = format!("tap,id=net0,fd={}", nics[0].tap.as_raw_fd());
    let config = with_nic(machine(&build, dir.path()), &netdev, &nics[0].mac, nics[0].mtu);
    let (_vm, _guest) = boot(config, &survey.apply(&BTreeMap::new())).await;
    for address in ["192.0.2.7", "2001:db8::7"] {
        // As much as a frame has room for.
        let ping = format!("{}/busybox ping -c 1 -W 10 -s 1300 {address}", build.display());
        world.outside.sh(&ping).await;
    }
    // From an address that the guest reaches by its default route alone.
    world.outside.sh(&format!("{}/busybox ping -c 1 -W 10 -I 198.51.100.1 192.0.2.7", build.display())).await;
}

/// Where the artefacts of a machine are.
fn build() -> PathBuf {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../build");
    let build = std::env::var_os("VMINITD_BUILD").map_or(default, PathBuf::from);
    let made = build.join("vmlinuz").exists() && build.join("initrd.img").exists();
    assert!(made, "no artefacts in {}; ./taskw image makes them", build.display());
    build.canonicalize().expect("it exists")
}

fn machine(build: &Path, dir: &Path) -> VmConfig {
    VmConfig { accel: Accel::Tcg, ..VmConfig::new(build, dir.join("vm")) }
}

fn with_nic(config: VmConfig, netdev: &str, mac: &str, mtu: u32) -> VmConfig {
    let device = format!("virtio-net-pci,netdev=net0,romfile=,mac={mac},host_mtu={mtu}");
    let qemu_extra = ["-netdev", netdev, "-device", &device].map(str::to_owned).into();
    VmConfig { qemu_extra, ..config }
}

/// A guest whose network is as the request says.
async fn boot(config: VmConfig, request: &ApplyRequest) -> (Vm, Guest) {
    let vm = Vm::launch(config).await.expect("launch a machine");
    vm.wait_vsock_driver(BOOT).await.expect("boot");
    let guest = Guest::connect(vm.rpc(), vm.stream(), BOOT).await.expect("connect to the guest");
    guest.client.network().apply(context(PATIENCE, "test"), request).await.expect("apply");
    (vm, guest)
}

#[tokio::test]
async fn a_guest_in_user_mode_reaches_its_host_over_both_families() {
    let build = build();
    // Of this thread and what it starts.
    unshare(CloneFlags::CLONE_NEWNET).expect("make a network namespace");
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().await.expect("run ip");
    assert!(up.success(), "{up}");
    let dir = tempfile::tempdir().expect("make a folder");
    let rootfs = dir.path().join("rootfs.ext4");
    fs::copy(build.join("rootfs.ext4"), &rootfs).expect("copy a root");
    let disk = Disk { path: rootfs, serial: "rootfs".into(), read_only: false };
    let (nic, request) = user_mode(&BTreeMap::new());
    let config = VmConfig { disks: vec![disk], ..machine(&build, dir.path()) };
    let (_vm, guest) = boot(with_nic(config, "user,id=net0", &nic.mac, request.links[0].mtu), &request).await;

    let (over_ipv4, over_ipv6) = (greeter("127.0.0.1:0").await, greeter("[::1]:0").await);
    let script = format!("nc 10.0.2.2 {over_ipv4} </dev/null; nc fec0::2 {over_ipv6} </dev/null");
    let config = spec::container(&["sh", "-c", &script]);
    let root = [Mount { type_: "ext4".into(), source: "serial:rootfs".into(), ..Default::default() }];
    let finished = guest.run(Container { id: "c1", config: &config, rootfs: &root }).await.expect("run");
    let said = (String::from_utf8_lossy(&finished.stdout), String::from_utf8_lossy(&finished.stderr));
    assert_eq!(said, ("from 127.0.0.1\nfrom ::1\n".into(), "".into()));
}

/// Tells who connects where it comes from; the port.
async fn greeter(address: &str) -> u16 {
    let listener = TcpListener::bind(address).await.expect("listen");
    let port = listener.local_addr().expect("ask for a port").port();
    tokio::spawn(async move {
        let (mut caller, from) = listener.accept().await.expect("accept");
        caller.write_all(format!("from {}\n", from.ip()).as_bytes()).await.expect("greet");
    });
    port
}
