//! What a guest that breaks out of QEMU would find.

use vminit_shim::api::containerd::api::Empty;
use vminit_shim::client::context;
use vminit_shim::vm::{Disk, User, VmConfig};

use super::machine::{folder, full, guest_of, launch, status, BOOT, SOMEBODY};

const NO_CAPABILITIES: &str = "0000000000000000";

#[tokio::test]
async fn a_guest_answers_though_its_qemu_is_nobody_in_a_sandbox() {
    let dir = folder();
    let path = dir.path().join("disk");
    std::fs::write(&path, [0; 1 << 20]).unwrap();
    let disks = vec![Disk { path, serial: "disk".into(), read_only: false }];
    let (vm, began) = launch(VmConfig { disks, cpuset: Some("0".into()), ..full(dir.path()) }).await;
    let guest = guest_of(&vm).await;
    guest.client.system().info(context(BOOT, "default"), &Empty::new()).await.expect("System.Info");

    let User { uid, gid } = SOMEBODY;
    let pid = vm.pid();
    assert_eq!(status(pid, "Name"), "qemu-system-x86");
    assert_eq!(status(pid, "Uid"), [uid; 4].map(|id| id.to_string()).join(" "));
    assert_eq!(status(pid, "Gid"), [gid; 4].map(|id| id.to_string()).join(" "));
    assert_eq!(status(pid, "Groups"), "");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status(pid, set), NO_CAPABILITIES, "{set}");
    }
    assert_eq!((status(pid, "NoNewPrivs"), status(pid, "Seccomp")), ("1".into(), "2".into()));
    assert_eq!(status(pid, "Cpus_allowed_list"), "0");
    let environ = std::fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    assert_eq!(environ, format!("PATH={}\0", std::env::var("PATH").unwrap()));

    let (_, vsock) = began[0];
    assert_eq!(status(vsock, "Name"), "vhost-device-vs");
    assert_eq!(
        (status(vsock, "CapEff").as_str(), status(vsock, "CapBnd").as_str()),
        (NO_CAPABILITIES, NO_CAPABILITIES)
    );
    vm.stop().await;
}
