//! The ordered stop, with something under way: whatever it is, it ends, and nothing is left or lost.

use std::pin::pin;
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use vminit_shim::api::containerd::api::{CreateTaskRequest, Mount};
use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::{Container, INIT};
use vminit_shim::spec;
use vminitd_test_support::calls::{answer_at_once, brief, create, exec, rpc_code, running};
use vminitd_test_support::{code, Daemon, LIMIT};

/// More than a socket holds, so that the last of it waits for its reader; less than socket and pipe hold in small pieces.
const OUTPUT_BYTES: usize = 240_000;

#[tokio::test]
async fn a_create_under_way_is_refused_and_leaves_no_container() {
    let daemon = Daemon::with_fake_runc().await;
    daemon.script(&json!({"create": {"c": {"hold": "gate"}}}));
    let guest = daemon.guest().await;
    let creating = tokio::spawn(async move { create(&guest, "c", &["forever"]).await });
    daemon.called("create", "c").await;
    daemon.terminate();
    let refused = creating.await.expect("join").expect_err("no container at the stop");
    assert_eq!(refused.code(), Some(Code::UNAVAILABLE), "{refused}");
    daemon.stopped_in_order().await;
}

#[tokio::test]
async fn an_exec_under_way_is_refused_and_leaves_no_process() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    running(&guest, "c", &["forever"]).await;
    exec(&guest, "c", "e", &["forever"]).await.expect("exec");
    daemon.script(&json!({"exec": {"c": {"hold": "gate"}}}));
    let starting = tokio::spawn(async move { guest.start("c", "e").await });
    daemon.called("exec", "c").await;
    daemon.terminate();
    starting.await.expect("join").expect_err("no exec at the stop");
    daemon.stopped_in_order().await;
}

#[tokio::test]
async fn a_waiter_of_an_exec_that_never_ran_is_released() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    running(&guest, "c", &["forever"]).await;
    exec(&guest, "c", "e", &["exit", "0"]).await.expect("exec");
    let mut waiting = pin!(guest.wait("c", "e"));
    assert_eq!(answer_at_once(&guest, &mut waiting).await.map(code), None);
    daemon.terminate();
    let refused = timeout(LIMIT, waiting).await.expect("in time");
    assert_eq!(code(refused), Code::FAILED_PRECONDITION);
    daemon.stopped_in_order().await;
}

#[tokio::test]
async fn output_that_a_slow_reader_has_not_taken_is_waited_for() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    let script = format!("head -c {OUTPUT_BYTES} /dev/zero");
    let config = spec::container(&["/bin/sh", "-c", &script]);
    let mut stdio = guest.stdio(false).await.expect("streams");
    guest.create(Container { id: "c", config: &config, rootfs: &[] }, &stdio).await.expect("create");
    guest.start("c", INIT).await.expect("start");
    guest.wait("c", INIT).await.expect("wait");
    daemon.terminate();
    // The container is gone by then; its output is what is left of it.
    daemon.logged("deleted container=c").await;
    let mut output = Vec::new();
    let mut stdout = stdio.stdout.take().expect("a stream").socket;
    timeout(LIMIT, stdout.read_to_end(&mut output)).await.expect("in time").expect("read");
    assert_eq!(output.len(), OUTPUT_BYTES);
    daemon.stopped_in_order().await;
}

#[tokio::test]
async fn creates_that_wait_for_disks_hold_up_nothing_else() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    running(&guest, "done", &["exit", "0"]).await;
    guest.wait("done", INIT).await.expect("wait");
    let config = spec::container(&["exit", "0"]);
    let mut creates = tokio::task::JoinSet::new();
    for n in 0..32 {
        let id = format!("c{n}");
        let bundle = guest.bundle(&id, &config).await.expect("bundle");
        let task = guest.client.task();
        creates.spawn(async move {
            let disk = Mount { type_: "ext4".into(), source: "serial:none".into(), ..Default::default() };
            let request = CreateTaskRequest { id, bundle, rootfs: vec![disk], ..Default::default() };
            task.create(brief(), &request).await.map_err(rpc_code)
        });
    }
    let other = daemon.guest().await;
    let quick = Duration::from_secs(2);
    timeout(quick, other.delete("done", INIT)).await.expect("not behind the creates").expect("delete");
    while let Some(created) = creates.join_next().await {
        assert_eq!(created.expect("join").expect_err("there is no such disk"), Code::NOT_FOUND);
    }
    daemon.stop().await;
}
