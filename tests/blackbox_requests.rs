//! Requests that no host should send: each is refused with the right code, before any work, and changes nothing.

use serde_json::json;
use vminit_shim::api::containerd::api::{ExecProcessRequest, KillRequest, Status, UpdateTaskRequest};
use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::INIT;
use vminitd_test_support::calls::{brief, create_in, exec, rpc_code, running, state, status};
use vminitd_test_support::{code, Daemon};

#[tokio::test]
async fn bad_ids_are_refused_before_any_work() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    let too_long = "a".repeat(77);
    for id in ["", ".", "..", "../x", "a/b", "-a", "a b", "a\0b", "é", too_long.as_str()] {
        assert_eq!(code(guest.bundle(id, &json!({})).await), Code::INVALID_ARGUMENT, "Bundle.Create {id:?}");
        assert_eq!(create_in(&guest, id, "/nowhere").await, Err(Code::INVALID_ARGUMENT), "Create {id:?}");
        assert_eq!(code(guest.start(id, INIT).await), Code::INVALID_ARGUMENT, "Start {id:?}");
        assert_eq!(code(guest.wait(id, INIT).await), Code::INVALID_ARGUMENT, "Wait {id:?}");
        assert_eq!(code(guest.kill(id, INIT, 9).await), Code::INVALID_ARGUMENT, "Kill {id:?}");
        assert_eq!(code(guest.delete(id, INIT).await), Code::INVALID_ARGUMENT, "Delete {id:?}");
        assert_eq!(state(&guest, id, INIT).await, Err(Code::INVALID_ARGUMENT), "State {id:?}");
        assert_eq!(code(exec(&guest, id, "e", &["exit", "0"]).await), Code::INVALID_ARGUMENT, "Exec {id:?}");
    }
    assert!(daemon.calls("create", "..").is_empty());
    daemon.stop().await;
}

#[tokio::test]
async fn bad_exec_ids_are_refused_before_any_work() {
    let daemon = Daemon::with_fake_runc().await;
    let (guest, events) = daemon.guest_and_events().await;
    running(&guest, "c", &["forever"]).await;
    for exec_id in ["..", "../x", "a/b", "-a", "a b"] {
        let refused = code(exec(&guest, "c", exec_id, &["exit", "0"]).await);
        assert_eq!(refused, Code::INVALID_ARGUMENT, "Exec {exec_id:?}");
        assert_eq!(code(guest.start("c", exec_id).await), Code::INVALID_ARGUMENT, "Start {exec_id:?}");
        assert_eq!(state(&guest, "c", exec_id).await, Err(Code::INVALID_ARGUMENT), "State {exec_id:?}");
    }
    // An empty exec id means init, which an Exec cannot add.
    assert_eq!(code(exec(&guest, "c", "", &["exit", "0"]).await), Code::INVALID_ARGUMENT);
    assert_eq!(events.of("c"), ["create", "start"]);
    daemon.stop().await;
}

#[tokio::test]
async fn unknown_ids_are_not_found() {
    let daemon = Daemon::with_fake_runc().await;
    let (guest, _events) = daemon.guest_and_events().await;
    running(&guest, "c", &["forever"]).await;
    for (id, exec_id) in [("nobody", ""), ("nobody", "e"), ("c", "nobody")] {
        assert_eq!(code(guest.start(id, exec_id).await), Code::NOT_FOUND);
        assert_eq!(code(guest.wait(id, exec_id).await), Code::NOT_FOUND);
        assert_eq!(code(guest.kill(id, exec_id, 9).await), Code::NOT_FOUND);
        assert_eq!(code(guest.delete(id, exec_id).await), Code::NOT_FOUND);
        assert_eq!(state(&guest, id, exec_id).await, Err(Code::NOT_FOUND));
    }
    daemon.stop().await;
}

#[tokio::test]
async fn an_exec_without_a_spec_and_an_update_without_resources_are_errors() {
    let daemon = Daemon::with_fake_runc().await;
    let (guest, _events) = daemon.guest_and_events().await;
    running(&guest, "c", &["forever"]).await;
    let task = guest.client.task();
    let request = ExecProcessRequest { id: "c".into(), exec_id: "e".into(), ..Default::default() };
    assert_eq!(
        task.exec(brief(), &request).await.map_err(rpc_code).expect_err("no spec"),
        Code::INVALID_ARGUMENT
    );
    let request = UpdateTaskRequest { id: "c".into(), ..Default::default() };
    let refused = task.update(brief(), &request).await.map_err(rpc_code).expect_err("no resources");
    assert!([Code::INVALID_ARGUMENT, Code::UNIMPLEMENTED].contains(&refused), "{refused:?}");
    assert_eq!(status(&guest, "c", INIT).await, Status::RUNNING);
    daemon.stop().await;
}

#[tokio::test]
async fn a_signal_that_does_not_exist_is_refused() {
    let daemon = Daemon::with_fake_runc().await;
    let (guest, _events) = daemon.guest_and_events().await;
    running(&guest, "c", &["forever"]).await;
    for signal in [0, 65, 9999, u32::MAX] {
        let request = KillRequest { id: "c".into(), signal, ..Default::default() };
        let refused = guest.client.task().kill(brief(), &request).await.map_err(rpc_code);
        assert_eq!(refused.map(drop), Err(Code::INVALID_ARGUMENT), "signal {signal}");
    }
    assert_eq!(status(&guest, "c", INIT).await, Status::RUNNING);
    daemon.stop().await;
}
