//! The vsock device of a machine: its backend, a process in user space, and the change to another. Never speaks to the
//! guest.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::sleep;

use super::child::{Child, Program, Rights};
use super::qmp::Qmp;
use super::{look_again, remove_stale, Part, VmConfig, VmError, LOOK, SOCKET};

/// Any guest may have this address: each has a backend of its own.
const GUEST_CID: u32 = 3;

/// Starts a backend, in place of the one before it, which must have lost its QEMU; gives the connection that is QEMU's.
pub(super) async fn start(
    config: &VmConfig,
    began: &mut impl FnMut(Part, u32),
) -> Result<(Child, OwnedFd), VmError> {
    let (socket, uds) = (config.vhost_socket(), config.vsock_socket());
    remove_stale(&socket)?;
    remove_stale(&uds)?;
    let vm = format!("guest-cid={GUEST_CID},socket={},uds-path={}", socket.display(), uds.display());
    let rights = match config.user {
        Some(_) => Rights::NoCapabilities,
        None => Rights::Ours,
    };
    let args = vec!["--vm".to_string(), vm];
    let program = Program { args, rights, ..Program::new(Part::Vsock, &config.vsock_backend) };
    let backend = Child::start(program)?;
    began(Part::Vsock, backend.pid());
    let end = backend.end();
    tokio::select! {
        connected = connect(&socket) => Ok((backend, connected?)),
        () = end.ended() => Err(backend.ended().await),
    }
}

/// The backend serves the first connection only, so this is the one.
async fn connect(socket: &Path) -> Result<OwnedFd, VmError> {
    let deadline = Instant::now() + SOCKET;
    loop {
        match UnixStream::connect(socket) {
            Ok(connection) => return Ok(connection.into()),
            Err(_) => look_again(deadline, "the socket of the vsock backend").await?,
        }
    }
}

/// Takes the device away and waits until the guest has let go of it.
pub(super) async fn unplug(qmp: &Qmp, generation: u32) -> Result<(), VmError> {
    let device = format!("vsock{generation}");
    qmp.call("device_del", json!({ "id": device })).await?;
    let deadline = Instant::now() + SOCKET;
    loop {
        let devices = qmp.call("qom-list", json!({ "path": "/machine/peripheral" })).await?;
        let left = devices.as_array().is_some_and(|all| all.iter().any(|it| it["name"] == device.as_str()));
        if !left {
            // Its connection to the backend stays, unused: QEMU calls it busy for some time yet.
            return Ok(());
        }
        look_again(deadline, "the guest to let go of its vsock device").await?;
    }
}

/// Puts a device in, on the backend that was just started.
pub(super) async fn plug(qmp: &Qmp, backend: OwnedFd, generation: u32) -> Result<(), VmError> {
    let device = format!("vsock{generation}");
    qmp.give_fd(&device, backend.as_fd()).await?;
    let address = json!({ "type": "fd", "data": { "str": device } });
    let backend = json!({ "type": "socket", "data": { "addr": address, "server": false } });
    qmp.call("chardev-add", json!({ "id": device, "backend": backend })).await?;
    let device = json!({
        "driver": "vhost-user-vsock-pci", "id": device, "chardev": device, "bus": "vsock-port",
    });
    qmp.call("device_add", device).await.map(drop)
}

/// A driver says that it is ready just before it hands out its first buffers (Linux, net/vmw_vsock/virtio_transport.c),
/// and what comes in between wedges the backend. Nothing tells of the buffers.
const SETTLE: Duration = Duration::from_millis(100);

/// Asks again and again, as QEMU tells of no change of a device's status (`x-query-virtio-status`, from 7.2 on).
pub(super) async fn driver_is_ready(qmp: &Qmp) -> Result<(), VmError> {
    loop {
        let devices = qmp.call("x-query-virtio", json!({})).await?;
        let all = devices.as_array().map(Vec::as_slice).unwrap_or_default();
        let vsock =
            all.iter().find(|device| device["name"].as_str().is_some_and(|name| name.contains("vsock")));
        if let Some(device) = vsock {
            let status = qmp.call("x-query-virtio-status", json!({"path": device["path"]})).await?;
            if status["status"]["statuses"].to_string().contains("DRIVER_OK") {
                sleep(SETTLE).await;
                return Ok(());
            }
        }
        sleep(LOOK).await;
    }
}
