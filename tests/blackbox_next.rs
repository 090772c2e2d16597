//! What a call leaves for those that come after it: nothing of another owner is touched, and a runc that is late does
//! nothing to the next container of its id.

use std::fs;

use protobuf::Message;
use serde_json::json;
use vminit_shim::api::containerd::api::{CreateTaskRequest, Status};
use vminit_shim::api::containerd::shim::oci::Options;
use vminit_shim::api::protobuf;
use vminit_shim::api::protobuf::well_known_types::any::Any;
use vminit_shim::api::ttrpc::Code;
use vminit_shim::api::type_url;
use vminit_shim::client::INIT;
use vminit_shim::spec;
use vminitd_test_support::calls::{brief, create, pause, resume, rpc_code, running, state, status};
use vminitd_test_support::{code, Daemon};

/// `runc delete --force`, by which a failed create is undone, removes whatever folder has the name of the container.
#[tokio::test]
async fn a_create_removes_nothing_that_was_there_before_it() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    let root = tempfile::tempdir().expect("a folder");
    let precious = root.path().join("etc");
    fs::create_dir(&precious).expect("make a folder");
    let options = Options { root: root.path().to_string_lossy().into_owned(), ..Default::default() };
    let value = options.write_to_bytes().expect("encode");
    let options = Any { type_url: type_url::RUNC_OPTIONS.into(), value, ..Default::default() };
    let bundle = guest.bundle("etc", &spec::container(&["exit", "0"])).await.expect("bundle");
    let request =
        CreateTaskRequest { id: "etc".into(), bundle, options: Some(options).into(), ..Default::default() };
    let refused = guest.client.task().create(brief(), &request).await.map_err(rpc_code);
    assert_eq!(refused.expect_err("its place is taken"), Code::ALREADY_EXISTS);
    assert!(precious.exists(), "a folder is gone that no container had made");
    assert_eq!(daemon.verbs("etc"), [""; 0]);
    daemon.stop().await;
}

/// A cgroup that does not freeze in time stays half frozen, and runc says no more than that it failed.
#[tokio::test]
async fn a_pause_that_fails_is_undone() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    running(&guest, "c", &["forever"]).await;
    daemon.script(
        &json!({"pause": {"c": {"fail": "timeout of 10s reached waiting for the cgroup to freeze"}}}),
    );
    assert_eq!(code(pause(&guest, "c").await), Code::UNKNOWN);
    assert_eq!(status(&guest, "c", INIT).await, Status::RUNNING);
    assert_eq!(daemon.verbs("c"), ["create", "start", "pause", "resume"]);
    daemon.stop().await;
}

#[tokio::test]
async fn what_cannot_be_thawed_after_a_failed_pause_is_paused_and_can_be_resumed() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    running(&guest, "c", &["forever"]).await;
    daemon.script(&json!({"pause": {"c": {"fail": "timeout"}}, "resume": {"c": {"fail": "timeout"}}}));
    assert_eq!(code(pause(&guest, "c").await), Code::UNKNOWN);
    assert_eq!(status(&guest, "c", INIT).await, Status::PAUSED);
    daemon.script(&json!({}));
    resume(&guest, "c").await.expect("resume");
    assert_eq!(status(&guest, "c", INIT).await, Status::RUNNING);
    daemon.stop().await;
}

#[tokio::test]
async fn a_slow_pause_does_not_freeze_the_next_container_of_its_id() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    running(&guest, "c", &["forever"]).await;
    daemon.script(&json!({"pause": {"c": {"hold": "gate"}}}));
    let other = daemon.guest().await;
    let pausing = tokio::spawn(async move { pause(&other, "c").await });
    daemon.called("pause", "c").await;
    guest.kill("c", INIT, 15).await.expect("kill");
    guest.wait("c", INIT).await.expect("wait");
    guest.delete("c", INIT).await.expect("delete");
    // It was ended with its container, not left to its gate.
    assert_eq!(code(pausing.await.expect("join")), Code::FAILED_PRECONDITION);
    create(&guest, "c", &["forever"]).await.expect("create");
    guest.start("c", INIT).await.expect("start");
    daemon.release("gate");
    pause(&guest, "c").await.expect("it is not paused");
    assert_eq!(state(&guest, "c", INIT).await.map(|state| state.status.enum_value()), Ok(Ok(Status::PAUSED)));
    resume(&guest, "c").await.expect("resume");
    daemon.stop().await;
}
