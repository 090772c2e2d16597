//! The System service of an ordinary process, which has no machine of its own: what Freeze refuses to others and when
//! that ends, and how hardware is named that is not there. Real disks and hardware are those of microVMs
//! (`tests/vm/freeze.rs`, `tests/vm/hotplug.rs`).

use std::time::Instant;

use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::INIT;
use vminit_shim::spec;
use vminitd_test_support::calls::{create, exec, pids, running};
use vminitd_test_support::{code, Daemon, LIMIT};

#[tokio::test]
async fn what_would_write_is_refused_while_file_systems_are_frozen() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    running(&guest, "runs", &["forever"]).await;
    exec(&guest, "runs", "added", &["forever"]).await.expect("exec");
    create(&guest, "created", &["forever"]).await.expect("create");

    for _ in ["the first time", "again"] {
        let frozen = guest.client.freeze_filesystems().await.expect("freeze");
        assert!(frozen.is_empty(), "it has no disks in its bundles: {frozen:?}");
    }
    let config = spec::container(&["forever"]);
    assert_eq!(code(guest.bundle("new", &config).await), Code::FAILED_PRECONDITION);
    assert_eq!(code(guest.start("created", INIT).await), Code::FAILED_PRECONDITION);
    assert_eq!(code(guest.start("runs", "added").await), Code::FAILED_PRECONDITION);
    assert_eq!(code(guest.delete("created", INIT).await), Code::FAILED_PRECONDITION);
    // These have nothing on a disk.
    guest.delete("runs", "added").await.expect("delete an exec");
    pids(&guest, "runs").await.expect("pids");
    guest.kill("runs", INIT, 9).await.expect("kill");
    guest.wait("runs", INIT).await.expect("wait");

    guest.client.thaw_filesystems().await.expect("thaw");
    guest.delete("runs", INIT).await.expect("delete");
    guest.start("created", INIT).await.expect("start");
    daemon.stop().await;
}

#[tokio::test]
async fn a_freeze_is_over_when_the_last_connection_that_froze_has_ended() {
    let daemon = Daemon::with_fake_runc().await;
    let [guest, first, last] = [daemon.guest().await, daemon.guest().await, daemon.guest().await];
    for host in [&first, &last] {
        host.client.freeze_filesystems().await.expect("freeze");
    }
    drop(first);
    daemon.logged("its connection has ended").await;
    let config = spec::container(&["forever"]);
    assert_eq!(code(guest.bundle("c", &config).await), Code::FAILED_PRECONDITION);
    drop(last);
    let deadline = Instant::now() + LIMIT;
    while let Err(error) = guest.bundle("c", &config).await {
        assert_eq!(error.code(), Some(Code::FAILED_PRECONDITION));
        assert!(Instant::now() < deadline, "it stays frozen");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn hardware_that_is_not_there_is_named() {
    let daemon = Daemon::with_fake_runc().await;
    let client = daemon.guest().await.client;
    client.online_cpu(0).await.expect("the first one always runs");
    assert_eq!(code(client.offline_cpu(0).await), Code::INVALID_ARGUMENT);
    assert_eq!(code(client.offline_cpu(1).await), Code::NOT_FOUND);
    assert_eq!(code(client.offline_memory(0).await), Code::NOT_FOUND);
    daemon.stop().await;
}
