//! Network interfaces that are plugged into a running machine. Owns what QEMU is asked for; never makes a tap.

use std::os::fd::{AsFd, OwnedFd};

use serde_json::{json, Value};

use super::qmp::Qmp;
use super::{args, VmError};

/// Plugs in an interface on a tap, and takes back what was done if that does not work.
pub(super) async fn plug_tap(qmp: &Qmp, index: u8, tap: OwnedFd, mac: &str, mtu: u32) -> Result<(), VmError> {
    let id = netdev(index);
    qmp.give_fd(&id, tap.as_fd()).await?;
    let added = qmp.call("netdev_add", json!({ "type": "tap", "id": id, "fd": id })).await;
    if let Err(error) = added {
        // QEMU keeps a descriptor that nobody took.
        let _ = qmp.call("closefd", json!({ "fdname": id })).await;
        return Err(error);
    }
    plug(qmp, index, json!({ "mac": mac, "host_mtu": mtu })).await
}

/// The same, on QEMU's own network of user space.
pub(super) async fn plug_user(qmp: &Qmp, index: u8, mac: &str) -> Result<(), VmError> {
    qmp.call("netdev_add", json!({ "type": "user", "id": netdev(index) })).await?;
    plug(qmp, index, json!({ "mac": mac })).await
}

async fn plug(qmp: &Qmp, index: u8, mut device: Value) -> Result<(), VmError> {
    let id = netdev(index);
    device["driver"] = "virtio-net-pci".into();
    device["id"] = format!("nic{index}").into();
    device["netdev"] = id.as_str().into();
    device["bus"] = args::nic_port(index).into();
    // Nobody boots from it, and the file of its ROM may not be there.
    device["romfile"] = "".into();
    let added = qmp.call("device_add", device).await;
    if added.is_err() {
        let _ = qmp.call("netdev_del", json!({ "id": id })).await;
    }
    added.map(drop)
}

fn netdev(index: u8) -> String {
    format!("net{index}")
}
