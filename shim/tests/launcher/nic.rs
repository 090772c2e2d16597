//! Network interfaces that are plugged into a running machine, in a network namespace made for it.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::time::Instant;

use nix::sched::{unshare, CloneFlags};
use tokio::process::Command;
use tokio::time::sleep;
use vminit_shim::api::network::{GetRequest, LinkStatus};
use vminit_shim::client::{context, Guest};
use vminit_shim::vm::{VmConfig, VmError};

use super::machine::{folder, full, guest_of, launch, LOOK, PATIENCE};

const ON_TAP: &str = "52:54:00:00:00:07";
const OF_USER_SPACE: &str = "52:54:00:00:00:08";
const MTU: u32 = 1400;

async fn ip(args: &str) -> String {
    let ip = Command::new("ip").args(args.split(' ')).output().await.expect("ip(8) is installed");
    assert!(ip.status.success(), "ip {args}: {}", String::from_utf8_lossy(&ip.stderr));
    String::from_utf8(ip.stdout).expect("text")
}

/// A macvtap, which is opened like a file; QEMU and the guest see what they see of any tap.
async fn tap() -> OwnedFd {
    ip("link add veth0 type veth peer name veth1").await;
    ip("link add macvtap0 link veth0 type macvtap").await;
    let line = ip("-oneline link show macvtap0").await;
    let (index, _) = line.split_once(':').expect("it begins with its index");
    let tap = OpenOptions::new().read(true).write(true).open(format!("/dev/tap{index}"));
    tap.expect("the kernel has made its node").into()
}

/// Waits until the guest has an interface with this address.
async fn link(guest: &Guest, mac: &str) -> LinkStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let got = guest.client.network().get(context(PATIENCE, "default"), &GetRequest::new()).await;
        let links = got.expect("Network.Get").links;
        if let Some(link) = links.into_iter().find(|link| link.mac == mac) {
            return link;
        }
        assert!(Instant::now() < deadline, "no interface {mac}");
        sleep(LOOK).await;
    }
}

#[tokio::test]
async fn the_guest_sees_each_interface_that_is_plugged_in() {
    // Of this thread and what it starts.
    unshare(CloneFlags::CLONE_NEWNET).expect("make a network namespace, as root");
    let dir = folder();
    let (vm, _) = launch(VmConfig { nic_ports: 2, ..full(dir.path()) }).await;
    let guest = guest_of(&vm).await;

    vm.plug_tap(0, tap().await, ON_TAP, MTU).await.expect("plug in a tap");
    assert_eq!(link(&guest, ON_TAP).await.mtu, MTU);
    let no_port = vm.plug_user(2, OF_USER_SPACE).await.unwrap_err();
    assert!(matches!(no_port, VmError::Qmp { .. }), "{no_port}");
    vm.plug_user(1, OF_USER_SPACE).await.expect("plug in a network of user space");
    link(&guest, OF_USER_SPACE).await;
    vm.stop().await;
}
