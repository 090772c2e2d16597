//! The daemon as its host sees it, on a runc that fails, hangs and dies as a script says. Failures, races and what
//! still answers meanwhile; nothing here needs root.

use std::pin::pin;
use std::sync::Arc;

use serde_json::{json, Value};
use tokio::task::JoinSet;
use tokio::time::timeout;
use vminit_shim::api::containerd::api::Status;
use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::{Client, Event, Guest, INIT};
use vminitd_test_support::calls::{answer_at_once, create, create_in, exec, running, state, status, stopped};
use vminitd_test_support::{code, poll_until, Daemon, EventLog, LIMIT};

// ---- while runc hangs

/// Each runc takes memory and time of a processor; a burst of them would take all of a small machine.
#[tokio::test]
async fn eight_runcs_create_at_once_and_the_others_take_their_turn() {
    let daemon = Daemon::with_fake_runc().await;
    daemon.script(&json!({"create": {"*": {"hold": "gate"}}}));
    let guest = Arc::new(daemon.guest().await);
    let ids: Vec<String> = (0..12).map(|n| format!("c{n}")).collect();
    let mut creates = JoinSet::new();
    for id in ids.clone() {
        let guest = guest.clone();
        creates.spawn(async move { create(&guest, &id, &["exit", "0"]).await });
    }
    let begun = || ids.iter().filter(|id| !daemon.calls("create", id).is_empty()).count();
    let eight = || if begun() < 8 { Err(format!("{} have begun", begun())) } else { Ok(()) };
    poll_until(LIMIT, "creates begin", eight).await;
    state(&guest, "c11", INIT).await.expect_err("being created");
    assert_eq!(begun(), 8);
    daemon.release("gate");
    while let Some(created) = creates.join_next().await {
        created.expect("join").expect("create");
    }
    for id in &ids {
        guest.delete(id, INIT).await.expect("delete");
    }
    daemon.stop().await;
}

/// The count of starting execs was wrong when init died: containerd/containerd#10589, #10603, #10634.
#[tokio::test]
async fn execs_of_one_container_start_beside_one_that_hangs() {
    let daemon = Daemon::with_fake_runc().await;
    let (guest, events) = daemon.guest_and_events().await;
    running(&guest, "c", &["forever"]).await;
    exec(&guest, "c", "slow", &["exit", "0"]).await.expect("exec");
    exec(&guest, "c", "quick", &["exit", "4"]).await.expect("exec");
    daemon.script(&json!({"exec": {"c": {"hold": "gate"}}}));
    let other = daemon.guest().await;
    let hanging = tokio::spawn(async move { other.start("c", "slow").await });
    daemon.called("exec", "c").await;
    daemon.script(&json!({}));

    guest.start("c", "quick").await.expect("start");
    events.until("c", "exit quick 4").await;

    // Init dies while an exec is still being started: its exit is the last.
    guest.kill("c", INIT, 9).await.expect("kill");
    stopped(&guest, "c", INIT).await;
    daemon.release("gate");
    hanging.await.expect("join").expect_err("runc refuses an exec in a dead container");
    let seen = events.until("c", "exit 137").await;
    assert_eq!(seen.last().map(String::as_str), Some("exit 137"));
    daemon.stop().await;
}

// ---- creates that fail

/// An exit was told of a create that had failed: containerd/containerd#6429.
#[tokio::test]
async fn a_failing_create_says_why_emits_nothing_and_leaves_the_id_free() {
    let daemon = Daemon::with_fake_runc().await;
    let (guest, events) = daemon.guest_and_events().await;
    let before = daemon.open_descriptors();
    daemon.script(&json!({"create": {"c": {"fail": "the moon is in the wrong phase"}}}));
    let error = create(&guest, "c", &["exit", "0"]).await.expect_err("runc refuses");
    assert!(error.to_string().contains("the moon is in the wrong phase"), "{error}");
    assert_eq!(state(&guest, "c", INIT).await.expect_err("not created"), Code::NOT_FOUND);

    daemon.script(&json!({}));
    let bundle = daemon.bundle("c").display().to_string();
    create_in(&guest, "c", &bundle).await.expect("the id is free, and the bundle is still there");
    guest.start("c", INIT).await.expect("start");
    events.until("c", "exit 0").await;
    guest.delete("c", INIT).await.expect("delete");
    assert_eq!(events.until("c", "delete").await, ["create", "start", "exit 0", "delete"]);
    daemon.assert_nothing_left(before).await;
    daemon.stop().await;
}

// ---- early exits: the three cases of the ledger

async fn early_exec(dead: Value) {
    let daemon = Daemon::with_fake_runc().await;
    let (guest, events) = daemon.guest_and_events().await;
    running(&guest, "c", &["forever"]).await;
    let before = daemon.open_descriptors();
    daemon.script(&json!({"exec": {"c": dead}}));
    exec(&guest, "c", "e", &["exit", "5"]).await.expect("exec");
    assert_ne!(guest.start("c", "e").await.expect("start"), 0);
    assert_eq!(guest.wait("c", "e").await.expect("wait").status, 5);
    events.until("c", "exit e 5").await;
    assert_eq!(guest.delete("c", "e").await.expect("delete").status, 5);
    guest.kill("c", INIT, 9).await.expect("kill");
    guest.wait("c", INIT).await.expect("wait");
    guest.delete("c", INIT).await.expect("delete");
    let all = ["create", "start", "exec-added e", "exec-started e", "exit e 5", "exit 137", "delete"];
    assert_eq!(events.until("c", "delete").await, all);
    daemon.assert_nothing_left(before).await;
    daemon.stop().await;
}

#[tokio::test]
async fn ledger_case_a_an_exec_that_is_a_zombie_when_runc_exits_has_its_one_exit() {
    early_exec(json!({"dead": "zombie"})).await;
}

#[tokio::test]
async fn ledger_case_b_an_exec_that_lives_when_runc_exits_has_its_one_exit() {
    early_exec(json!({})).await;
}

/// An exec's exit was not told: containerd/rust-extensions commit eef8806.
#[tokio::test]
async fn ledger_case_c_an_exec_reaped_before_runc_exits_has_its_one_exit() {
    early_exec(json!({"dead": "reaped"})).await;
}

/// Its exit waited for a lock that the creator held: containerd/containerd#9103, #9104.
#[tokio::test]
async fn an_init_that_dies_in_create_is_stopped_and_has_one_exit() {
    for dead in ["zombie", "reaped"] {
        let daemon = Daemon::with_fake_runc().await;
        let (guest, events) = daemon.guest_and_events().await;
        let before = daemon.open_descriptors();
        daemon.script(&json!({"create": {"c": {"dead": dead}}}));
        create(&guest, "c", &["exit", "9"]).await.expect("create");
        guest.start("c", INIT).await.expect_err("a dead init cannot start");
        assert_eq!(guest.delete("c", INIT).await.expect("delete").status, 9);
        assert_eq!(events.until("c", "delete").await, ["create", "exit 9", "delete"], "{dead}");
        daemon.assert_nothing_left(before).await;
        daemon.stop().await;
    }
}

// ---- the order of events

#[tokio::test]
async fn start_is_published_before_exit_when_the_process_is_dead_before_runc_returns() {
    let daemon = Daemon::with_fake_runc().await;
    let (guest, events) = daemon.guest_and_events().await;
    create(&guest, "c", &["exit", "0"]).await.expect("create");
    daemon.script(&json!({"start": {"c": {"linger": "gate"}}}));
    let other = daemon.guest().await;
    let starting = tokio::spawn(async move { other.start("c", INIT).await });
    daemon.runc_dir_has("c/started").await;
    assert_eq!(events.of("c"), ["create"]);
    daemon.release("gate");
    starting.await.expect("join").expect("start");
    assert_eq!(events.until("c", "exit 0").await, ["create", "start", "exit 0"]);
    daemon.stop().await;
}

/// Init's exit came first, then those of execs not at all: containerd/containerd#9719, #9828, #9999.
#[tokio::test]
async fn init_exit_is_published_after_its_execs() {
    let daemon = Daemon::with_fake_runc().await;
    let (guest, events) = daemon.guest_and_events().await;
    running(&guest, "c", &["forever"]).await;
    exec(&guest, "c", "e", &["forever"]).await.expect("exec");
    guest.start("c", "e").await.expect("start");
    guest.kill("c", INIT, 9).await.expect("kill init");
    // A pid namespace would take the exec along; here it lives on until it is killed.
    guest.kill("c", "e", 9).await.expect("kill the exec");
    let seen = events.until("c", "exit 137").await;
    assert_eq!(seen, ["create", "start", "exec-added e", "exec-started e", "exit e 137", "exit 137"]);
    daemon.stop().await;
}

/// An exit was lost when it could not be delivered: containerd/containerd#3177, #6771.
#[tokio::test]
async fn events_that_no_subscriber_got_go_to_the_next_one() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    running(&guest, "early", &["exit", "1"]).await;
    guest.wait("early", INIT).await.expect("wait");
    let events = EventLog::subscribe(&guest).await;
    assert_eq!(events.until("early", "exit 1").await, ["create", "start", "exit 1"]);
    drop(events);
    await_no_subscriber(&daemon, &guest).await;
    let events = EventLog::subscribe(&guest).await;
    assert_eq!(events.until("later", "exit 2").await, ["create", "start", "exit 2"]);
    assert!(events.of("early").is_empty(), "delivered twice: {:?}", events.of("early"));
    daemon.stop().await;
}

/// Makes the events of container `later`, of which the closed subscription may have been sent none.
async fn await_no_subscriber(daemon: &Daemon, guest: &Guest) {
    // The daemon sees the connection close when it reads it: a later connection is accepted by then.
    daemon.guest().await;
    running(guest, "later", &["exit", "2"]).await;
    guest.wait("later", INIT).await.expect("wait");
}

#[tokio::test]
async fn envelopes_name_containerds_topics_and_a_namespace() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    let client = Client::connect(&guest.rpc).await.expect("connect");
    let mut stream = client.events().await.expect("subscribe");
    running(&guest, "c", &["exit", "0"]).await;
    for topic in ["/tasks/create", "/tasks/start", "/tasks/exit"] {
        let received =
            timeout(LIMIT, stream.receive()).await.expect("in time").expect("an event").expect("no end");
        assert_eq!(received.topic, topic);
        assert_eq!(received.namespace, "default");
        if let Event::Exit { container_id, id, .. } = received.event {
            assert_eq!(
                (container_id.as_str(), id.as_str()),
                ("c", "c"),
                "an init's exit names the container twice"
            );
        }
    }
    daemon.stop().await;
}

// ---- states

#[tokio::test]
async fn a_failed_exec_start_stays_created_and_can_only_be_deleted() {
    let daemon = Daemon::with_fake_runc().await;
    let (guest, events) = daemon.guest_and_events().await;
    running(&guest, "c", &["forever"]).await;
    exec(&guest, "c", "e", &["exit", "0"]).await.expect("exec");
    daemon.script(&json!({"exec": {"c": {"fail": "no such program"}}}));
    let error = guest.start("c", "e").await.expect_err("runc refuses");
    assert!(error.to_string().contains("no such program"), "{error}");
    daemon.script(&json!({}));
    assert_eq!(status(&guest, "c", "e").await, Status::CREATED);
    assert_eq!(code(guest.start("c", "e").await), Code::FAILED_PRECONDITION);
    assert_eq!(code(guest.wait("c", "e").await), Code::FAILED_PRECONDITION);
    assert_eq!(guest.delete("c", "e").await.expect("delete").status, 0);
    assert_eq!(state(&guest, "c", "e").await.expect_err("deleted"), Code::NOT_FOUND);
    guest.kill("c", INIT, 9).await.expect("kill");
    assert_eq!(events.until("c", "exit 137").await, ["create", "start", "exec-added e", "exit 137"]);
    daemon.stop().await;
}

#[tokio::test]
async fn waiters_of_an_exec_are_released_when_its_start_fails() {
    let daemon = Daemon::with_fake_runc().await;
    let (guest, _events) = daemon.guest_and_events().await;
    running(&guest, "c", &["forever"]).await;
    exec(&guest, "c", "e", &["exit", "0"]).await.expect("exec");
    daemon.script(&json!({"exec": {"c": {"hold": "gate", "fail": "no such program"}}}));
    let starter = daemon.guest().await;
    let starting = tokio::spawn(async move { starter.start("c", "e").await });
    daemon.called("exec", "c").await;
    let mut waiting = pin!(guest.wait("c", "e"));
    assert_eq!(answer_at_once(&guest, &mut waiting).await.map(code), None);
    daemon.release("gate");
    starting.await.expect("join").expect_err("runc refuses");
    assert_eq!(code(waiting.await), Code::FAILED_PRECONDITION);
    daemon.stop().await;
}

#[tokio::test]
async fn the_calls_name_the_bundle_and_no_private_log_twice() {
    let daemon = Daemon::with_fake_runc().await;
    let (guest, _events) = daemon.guest_and_events().await;
    running(&guest, "c", &["exit", "0"]).await;
    let create = daemon.calls("create", "c").remove(0);
    let start = daemon.calls("start", "c").remove(0);
    let after = |argv: &[String], option: &str| argv.iter().skip_while(|arg| *arg != option).nth(1).cloned();
    let bundle = daemon.bundle("c").display().to_string();
    assert_eq!(after(&create, "--bundle"), Some(bundle));
    assert_eq!(after(&create, "--root"), Some(daemon.dir().join("runc").display().to_string()));
    assert_ne!(after(&create, "--log"), after(&start, "--log"), "a fresh log for every call");
    daemon.stop().await;
}

// ---- the end

#[tokio::test]
async fn shutdown_with_a_container_left_does_nothing_and_without_one_ends_the_daemon() {
    let mut daemon = Daemon::with_fake_runc().await;
    let (guest, _events) = daemon.guest_and_events().await;
    running(&guest, "c", &["exit", "0"]).await;
    guest.wait("c", INIT).await.expect("wait");
    guest.shutdown().await.expect("shutdown");
    assert_eq!(status(&guest, "c", INIT).await, Status::STOPPED);
    guest.delete("c", INIT).await.expect("delete");
    guest.shutdown().await.expect("shutdown");
    let ended = daemon.ended().await;
    assert!(ended.success(), "{ended}");
}

/// The stop closed the queue under its senders: containerd/containerd#13052.
#[tokio::test]
async fn a_stop_kills_what_runs_and_takes_its_exit_to_the_subscriber() {
    let daemon = Daemon::with_fake_runc().await;
    let (guest, events) = daemon.guest_and_events().await;
    running(&guest, "c", &["forever"]).await;
    daemon.stop().await;
    events.until("c", "exit 137").await;
}
