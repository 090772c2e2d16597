//! Whether KVM runs a kernel here. `/dev/kvm` alone does not say: where virtualisation is nested badly it opens, and the
//! guest hangs before its first instruction counts. So one kernel is tried, once in a process.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::child::Child;
use super::VmError;

/// A kernel under KVM speaks within some 100 ms; one that has not by now never will.
const PROBE: Duration = Duration::from_secs(2);

static USABLE: OnceCell<bool> = OnceCell::const_new();

/// Tries `kernel` under KVM, or recalls how that went. Takes [`PROBE`] at most, once.
pub(super) async fn usable(kernel: &Path, dir: &Path) -> bool {
    *USABLE
        .get_or_init(|| async {
            let usable = Path::new("/dev/kvm").exists() && speaks(kernel, dir).await.unwrap_or(false);
            tracing::debug!(usable, "kvm probed");
            usable
        })
        .await
}

async fn speaks(kernel: &Path, dir: &Path) -> Result<bool, VmError> {
    let kernel = kernel.display().to_string();
    let args =
        "-nodefaults -no-user-config -display none -no-reboot -machine q35 -accel kvm -cpu host -m 256 \
                -serial stdio -append earlyprintk=serial,ttyS0,115200 -kernel";
    let args: Vec<&str> = args.split_whitespace().chain([kernel.as_str()]).collect();
    let mut qemu = Child::start("kvm-probe", &PathBuf::from("qemu-system-x86_64"), &args, dir, true)?;
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
