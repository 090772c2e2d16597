//! Pause and resume: file systems are frozen, the machine is stopped from outside and goes on, file systems are thawed.

use std::time::Duration;

use serde_json::json;
use tokio::time::{sleep, timeout};
use vminit_shim::api::containerd::api::Status;
use vminit_shim::client::{Guest, INIT};
use vminitd_test_support::calls::{patient, status};
use vminitd_test_support::ABSENCE;

use super::create::ID;
use super::exec::run;
use super::host::{dial_and_ping, Host};

/// A guest that goes on answers at once; an emulated one within this time.
const ANSWER: Duration = Duration::from_secs(10);

/// The tests' vsock backend passes nothing on any more. It happens to it when QEMU stops the machine, above all if it has
/// something for the guest then; the kernel's own vsock does not know of such stops.
pub struct BackendLost;

/// Nothing is asked while the machine is stopped: it would not be answered.
pub async fn pause_and_resume(host: &Host, c3: &Guest) -> Result<(), BackendLost> {
    let system = c3.client.system();
    let frozen = system.freeze_filesystems(patient(), &Default::default()).await.expect("FreezeFilesystems");
    assert!(!frozen.frozen.is_empty(), "there are two disks with ext4, and none was frozen");

    let quiet = host.quiet.write().await;
    assert_eq!(
        status(c3, ID, INIT).await,
        Status::RUNNING,
        "what looks is answered while nothing may be written"
    );
    // Connections of the monitor and streams of the last process may still be closing, which takes packets in both
    // directions for some 60 ms.
    sleep(ABSENCE).await;
    host.vm.qmp("stop", json!({})).await.expect("stop the machine");
    sleep(ABSENCE).await;
    host.vm.qmp("cont", json!({})).await.expect("let the machine go on");
    if timeout(ANSWER, status(c3, ID, INIT)).await.is_err() {
        let anew = timeout(ANSWER, dial_and_ping(&host.vm.rpc())).await;
        assert!(!matches!(anew, Ok(Ok(()))), "the guest answers others, and not C3");
        return Err(BackendLost);
    }
    drop(quiet);

    assert_eq!(
        status(c3, ID, INIT).await,
        Status::RUNNING,
        "what looks is answered while nothing may be written"
    );
    system.thaw_filesystems(patient(), &Default::default()).await.expect("ThawFilesystems");
    system.thaw_filesystems(patient(), &Default::default()).await.expect("there is nothing to thaw any more");
    run(host, c3, "after", "echo written >/after; sync; cat /after").await;
    Ok(())
}
