//! Pause and resume: file systems are frozen, the machine is stopped from outside and goes on, file systems are thawed.

use serde_json::json;
use tokio::time::sleep;
use vminit_shim::api::containerd::api::Status;
use vminit_shim::client::{Guest, INIT};
use vminitd_test_support::calls::{patient, status};
use vminitd_test_support::ABSENCE;

use super::create::ID;
use super::exec::run;
use super::host::Host;

/// Nothing is asked while the machine is stopped: it would not be answered, and the tests' vsock backend answers nothing
/// any more once it got something to pass on to a machine that QEMU had stopped.
pub async fn pause_and_resume(host: &Host, c3: &Guest) {
    let system = c3.client.system();
    let frozen = system.freeze_filesystems(patient(), &Default::default()).await.expect("FreezeFilesystems");
    assert!(!frozen.frozen.is_empty(), "there are two disks with ext4, and none was frozen");

    let quiet = host.quiet.write().await;
    // The monitor's last connection may still be closing, which takes a packet in each direction.
    for _ in 0..2 {
        assert_eq!(
            status(c3, ID, INIT).await,
            Status::RUNNING,
            "what looks is answered while nothing may be written"
        );
    }
    host.vm.qmp("stop", json!({})).await.expect("stop the machine");
    sleep(ABSENCE).await;
    host.vm.qmp("cont", json!({})).await.expect("let the machine go on");
    drop(quiet);

    assert_eq!(
        status(c3, ID, INIT).await,
        Status::RUNNING,
        "what looks is answered while nothing may be written"
    );
    system.thaw_filesystems(patient(), &Default::default()).await.expect("ThawFilesystems");
    system.thaw_filesystems(patient(), &Default::default()).await.expect("there is nothing to thaw any more");
    run(host, c3, "after", "echo written >/after; sync; cat /after").await;
}
