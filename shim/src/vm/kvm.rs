//! Whether KVM runs a kernel here. `/dev/kvm` alone does not say: where virtualisation is nested badly it opens, and
//! the guest hangs before its first instruction counts. So one kernel is tried, once in a process.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::child::{Child, Program, Rights, FIRST_FD};
use super::{args, Part, VmError, QEMU};

const DEVICE: &str = "/dev/kvm";
/// The mode bits by which a group may read and write.
const GROUP_USES: u32 = 0o060;

/// A kernel under KVM speaks within some 100 ms; one that has not by now never will.
const PROBE: Duration = Duration::from_secs(2);

static USABLE: OnceCell<bool> = OnceCell::const_new();

/// The group that may use `/dev/kvm`, if there is one. That of root is none: much else on a host is open to it.
pub(super) fn group() -> Option<u32> {
    let device = fs::metadata(DEVICE).ok()?;
    (device.gid() != 0 && device.mode() & GROUP_USES == GROUP_USES).then(|| device.gid())
}

/// Tries `kernel` under KVM with these rights, or recalls how that went. Takes [`PROBE`] at most, once.
pub(super) async fn usable(kernel: OwnedFd, rights: Rights) -> bool {
    *USABLE
        .get_or_init(|| async {
            let usable = Path::new(DEVICE).exists() && speaks(kernel, rights).await.unwrap_or(false);
            tracing::debug!(usable, "kvm probed");
            usable
        })
        .await
}

async fn speaks(kernel: OwnedFd, rights: Rights) -> Result<bool, VmError> {
    let kernel_path = args::path_of(FIRST_FD);
    let args =
        "-nodefaults -no-user-config -display none -no-reboot -machine q35 -accel kvm -cpu host -m 256 \
                -serial stdio -append earlyprintk=serial,ttyS0,115200 -kernel";
    let args = args.split_whitespace().chain([kernel_path.as_str()]).map(str::to_string).collect();
    let fds = vec![kernel];
    let program = Program { args, fds, rights, ..Program::new(Part::Qemu, Path::new(QEMU)) };
    let mut qemu = Child::start(Program { piped: true, ..program })?;
    let Some(mut out) = qemu.stdout() else { return Ok(false) };
    let mut text = Vec::new();
    let spoke = timeout(PROBE, async {
        // The firmware may speak before the kernel does.
        while !String::from_utf8_lossy(&text).contains("Linux version") {
            if out.read_buf(&mut text).await? == 0 {
                return Ok(false);
            }
        }
        Ok::<bool, std::io::Error>(true)
    });
    Ok(matches!(spoke.await, Ok(Ok(true))))
}
