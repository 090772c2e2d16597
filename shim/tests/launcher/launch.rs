//! What a launch refuses, and how a machine ends by itself or by us.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;
use vminit_shim::vm::{Ended, ExitReason, Part, Vm, VmConfig, VmError};

use super::machine::{folder, full, plain, BOOT};

#[tokio::test]
async fn a_guest_whose_kernel_panics_is_a_dead_vm() {
    let dir = folder();
    // No such init: the kernel panics, and `panic=-1` with `-no-reboot` ends QEMU.
    let append_extra = "rdinit=/none init=/none".to_string();
    let mut vm = Vm::launch(VmConfig { append_extra, ..plain(dir.path()) }).await.unwrap();
    assert_eq!(vm.wait_exit(BOOT).await.unwrap(), ExitReason::GuestReset);
    assert_eq!(vm.ended().await, Ended::Qemu(ExitReason::GuestReset));
    let late = vm.wait_milestone("serve", BOOT).await.unwrap_err();
    assert!(matches!(late, VmError::NoConsole { .. }), "{late}");
    let console = fs::read_to_string(vm.console_log()).unwrap();
    assert!(console.contains("Kernel panic"), "{console}");
    assert!(vm.console_tail().contains("Kernel panic"), "{}", vm.console_tail());
}

#[tokio::test]
async fn a_dropped_machine_is_gone_with_its_backend() {
    let dir = folder();
    let vm = Vm::launch(plain(dir.path())).await.unwrap();
    assert_eq!(vm.qmp("query-status", json!({})).await.unwrap()["status"], "running");
    let pid = vm.pid();
    drop(vm);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    // Nobody accepts on the sockets either.
    let uds = dir.path().join("vm/vsock.sock");
    assert!(std::os::unix::net::UnixStream::connect(uds).is_err());
}

#[tokio::test]
async fn what_is_missing_is_named_before_anything_is_started() {
    let dir = folder();
    let refused = Vm::launch(VmConfig::new(Path::new("/none"), dir.path().join("vm"))).await.unwrap_err();
    assert_eq!(refused.to_string(), "find the kernel at /none/vmlinuz");
    let mut config = full(dir.path());
    config.share.as_mut().unwrap().virtiofsd = "/none/virtiofsd".into();
    assert_eq!(Vm::launch(config).await.unwrap_err().to_string(), "find the virtiofsd at /none/virtiofsd");
    assert!(!dir.path().join("vm").exists());
}

#[tokio::test]
async fn a_kernel_that_qemus_user_may_not_read_is_refused_by_name() {
    let dir = folder();
    let kernel = dir.path().join("kernel");
    fs::write(&kernel, "").unwrap();
    fs::set_permissions(&kernel, fs::Permissions::from_mode(0o640)).unwrap();
    let config = VmConfig { kernel: kernel.clone(), ..full(dir.path()) };
    let refused = Vm::launch(config).await.unwrap_err();
    assert!(matches!(refused, VmError::Unreadable { path } if path == kernel));
}

#[tokio::test]
async fn a_qemu_that_does_not_run_is_quoted_and_leaves_nothing() {
    let dir = folder();
    let mut began = Vec::new();
    let config = VmConfig { qemu_extra: vec!["-nonsense".into()], ..full(dir.path()) };
    let refused = Vm::launch_telling(config, |part, pid| began.push((part, pid))).await.unwrap_err();
    let VmError::Ended { part: Part::Qemu, status, log } = refused else { panic!("{refused}") };
    assert!(status == "ended with status 1" && log.contains("-nonsense: invalid option"), "{status}: {log}");
    assert_eq!(
        began.iter().map(|(part, _)| *part).collect::<Vec<_>>(),
        [Part::Vsock, Part::Virtiofsd, Part::Qemu]
    );
    for (part, pid) in began {
        assert!(super::machine::is_reaped(pid), "{part:?}");
    }
}

#[tokio::test]
async fn a_virtiofsd_that_does_not_run_is_quoted() {
    let dir = folder();
    let broken = dir.path().join("virtiofsd");
    fs::write(&broken, "#!/bin/sh\necho it is broken >&2\nexit 1\n").unwrap();
    fs::set_permissions(&broken, fs::Permissions::from_mode(0o755)).unwrap();
    let mut config = full(dir.path());
    config.share.as_mut().unwrap().virtiofsd = broken;
    let refused = Vm::launch(config).await.unwrap_err().to_string();
    assert!(refused.contains("virtiofsd: it is broken"), "{refused}");
}
