//! Launching a machine, with the artefacts of `./taskw image`; without them (`VMINITD_BUILD`, or `build/` at the root of
//! the repository) these tests say so and pass.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use vminit_shim::vm::{Accel, ExitReason, Vm, VmConfig, VmError};

const BOOT: Duration = Duration::from_secs(60);

fn build() -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../build");
    let build = std::env::var_os("VMINITD_BUILD").map_or(default, PathBuf::from);
    let made = build.join("vmlinuz").exists() && build.join("initrd.img").exists();
    if !made {
        eprintln!("skipped: no artefacts in {}; ./taskw image makes them", build.display());
    }
    made.then_some(build)
}

fn machine(build: &Path, dir: &Path) -> VmConfig {
    VmConfig { accel: Accel::Tcg, ..VmConfig::new(build, dir.join("vm")) }
}

#[tokio::test]
async fn a_guest_whose_kernel_panics_is_a_dead_vm() {
    let Some(build) = build() else { return };
    let dir = tempfile::tempdir().unwrap();
    // No such init: the kernel panics, and `panic=-1` with `-no-reboot` ends QEMU.
    let append_extra = "rdinit=/none init=/none".to_string();
    let mut vm = Vm::launch(VmConfig { append_extra, ..machine(&build, dir.path()) }).await.unwrap();
    assert_eq!(vm.wait_exit(BOOT).await.unwrap(), ExitReason::GuestReset);
    let late = vm.wait_milestone("serve", BOOT).await.unwrap_err();
    assert!(matches!(late, VmError::NoConsole { .. }), "{late}");
    let console = std::fs::read_to_string(vm.console_log()).unwrap();
    assert!(console.contains("Kernel panic"), "{console}");
}

#[tokio::test]
async fn a_dropped_machine_is_gone_with_its_backend() {
    let Some(build) = build() else { return };
    let dir = tempfile::tempdir().unwrap();
    let vm = Vm::launch(machine(&build, dir.path())).await.unwrap();
    assert_eq!(vm.qmp("query-status", json!({})).await.unwrap()["status"], "running");
    let pid = vm.pid().unwrap();
    vm.stop();
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    // Nobody accepts on the sockets either.
    let uds = dir.path().join("vm/vsock.sock");
    assert!(std::os::unix::net::UnixStream::connect(uds).is_err());
}

#[tokio::test]
async fn what_is_missing_is_named_before_anything_is_started() {
    let dir = tempfile::tempdir().unwrap();
    let refused = Vm::launch(VmConfig::new(Path::new("/none"), dir.path().join("vm"))).await.unwrap_err();
    assert_eq!(refused.to_string(), "find the kernel at /none/vmlinuz");
    assert!(!dir.path().join("vm").exists());
}
