//! The vsock device of a machine: its backend, a process in user space, and the change to another; or the host's own.
//! Never speaks to the guest.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::sleep;

use super::child::{Child, Program, Rights};
use super::qmp::Qmp;
use super::{look_again, remove_stale, Part, VmConfig, VmError, Vsock, LOOK, SOCKET};
use crate::sys::take_guest_cid;

/// Any guest may have this address: each has a backend of its own.
const GUEST_CID: u32 = 3;

/// The host's own vsock.
const KERNEL: &str = "/dev/vhost-vsock";
/// Its addresses from here on are for guests (vsock(7)), and up to here plenty.
const CIDS: Range<u32> = 3..1 << 31;
/// Some hundred machines of a host hit the same address once in ten million tries.
const CID_TRIES: usize = 8;

/// The device's far side.
#[derive(Debug)]
pub(super) struct Far {
    /// The process, unless it is the kernel.
    pub backend: Option<Child>,
    /// QEMU's descriptor of it.
    pub qemus: OwnedFd,
    /// The guest's address, if it has it on the host's own vsock.
    pub cid: Option<u32>,
}

/// Makes the far side of the device that `config` asks for.
pub(super) async fn far(config: &VmConfig, began: &mut impl FnMut(Part, u32)) -> Result<Far, VmError> {
    match &config.vsock {
        Vsock::Backend(program) => {
            let (backend, qemus) = start(config, program, began).await?;
            Ok(Far { backend: Some(backend), qemus, cid: None })
        }
        Vsock::Kernel => {
            let failed = |source| VmError::Dir { path: KERNEL.into(), source };
            let device = OpenOptions::new().read(true).write(true).open(KERNEL).map_err(failed)?;
            let cid = take_cid(|cid| take_guest_cid(device.as_fd(), cid)).map_err(failed)?;
            Ok(Far { backend: None, qemus: device.into(), cid: Some(cid) })
        }
    }
}

/// Takes any address that nobody has. It is taken before there is a QEMU, which takes it once more, so that a QEMU need
/// not be started again.
fn take_cid(take: impl Fn(u32) -> io::Result<()>) -> io::Result<u32> {
    let mut random = File::open("/dev/urandom")?;
    let mut refused = io::ErrorKind::AddrInUse.into();
    for _ in 0..CID_TRIES {
        let mut bytes = [0; 4];
        random.read_exact(&mut bytes)?;
        let cid = CIDS.start + u32::from_ne_bytes(bytes) % (CIDS.end - CIDS.start);
        match take(cid) {
            Ok(()) => return Ok(cid),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => refused = error,
            Err(error) => return Err(error),
        }
    }
    Err(refused)
}

/// Starts a backend, in place of the one before it, which must have lost its QEMU; gives the connection that is QEMU's.
async fn start(
    config: &VmConfig,
    program: &Path,
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
    let program = Program { args, rights, ..Program::new(Part::Vsock, program) };
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// The addresses that were tried, when `answer` is said to each by its number.
    fn tried(answer: impl Fn(usize) -> io::Result<()>) -> (io::Result<u32>, Vec<u32>) {
        let tried = RefCell::new(Vec::new());
        let taken = take_cid(|cid| {
            tried.borrow_mut().push(cid);
            answer(tried.borrow().len())
        });
        (taken, tried.into_inner())
    }

    #[test]
    fn an_address_that_is_taken_gives_way_to_another_some_times() {
        let in_use = || io::Error::from_raw_os_error(libc::EADDRINUSE);
        let (taken, tries) = tried(|n| if n < 3 { Err(in_use()) } else { Ok(()) });
        assert_eq!((taken.unwrap(), tries.len()), (tries[2], 3));
        assert!(tries.iter().all(|cid| CIDS.contains(cid)), "{tries:?}");
        assert!(tries.windows(2).all(|two| two[0] != two[1]), "{tries:?}");
        let (taken, tries) = tried(|_| Err(in_use()));
        assert_eq!((taken.unwrap_err().kind(), tries.len()), (io::ErrorKind::AddrInUse, CID_TRIES));
    }

    #[test]
    fn what_is_no_clash_is_not_tried_again() {
        let (taken, tries) = tried(|_| Err(io::ErrorKind::PermissionDenied.into()));
        assert_eq!((taken.unwrap_err().kind(), tries.len()), (io::ErrorKind::PermissionDenied, 1));
    }
}
