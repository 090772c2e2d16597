//! Exits that elsewhere were lost, told twice, or told in the wrong order.

use std::sync::Arc;

use tokio::task::JoinSet;
use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::{Client, ClientError, Event, Guest, INIT};
use vminitd_test_support::calls::{exec, running, running_in_shared_pids};
use vminitd_test_support::{Daemon, EventLog, Valve};

/// How many processes die at once.
const MANY: usize = 100;

/// Events beyond this let a subscriber be cut off (`LAG_MAX` of the exchange is 1,024), and more than a socket holds
/// are sent besides.
const TOO_MANY: usize = 3_000;

/// Callers that get in each other's way.
const CALLERS: usize = 8;

/// Exits were dropped when their consumer was slow, and the reaper stood still when dozens came at once:
/// containerd/containerd#2709, #2748, #3525, #3529, #3540, #12678, #13814, #13849; order: #9719, #9999.
#[tokio::test]
async fn a_stalled_sink_loses_none_of_a_hundred_exits_at_once() {
    let daemon = Daemon::with_fake_runc().await;
    let (guest, valve) = (daemon.guest().await, Valve::before(&daemon));
    let events = EventLog::subscribe(&valve.guest().await).await;
    running_in_shared_pids(&guest, "c", &["forever"]).await;
    events.until("c", "start").await;
    valve.shut();
    let names: Vec<String> = (0..MANY).map(|n| format!("exec-{n}")).collect();
    for name in &names {
        exec(&guest, "c", name, &["forever"]).await.expect("exec");
        guest.start("c", name).await.expect("start");
    }
    guest.kill("c", INIT, 9).await.expect("kill");
    for name in &names {
        assert_eq!(guest.wait("c", name).await.expect("wait").status, 137);
    }
    guest.wait("c", INIT).await.expect("wait");
    assert_eq!(events.of("c"), ["create", "start"], "the sink has not read since");

    valve.open();
    let seen = events.until("c", "exit 137").await;
    for name in &names {
        let life = [format!("exec-added {name}"), format!("exec-started {name}"), format!("exit {name} 137")];
        let its: Vec<&String> = seen.iter().filter(|event| life.contains(event)).collect();
        assert_eq!(its, life.iter().collect::<Vec<_>>(), "exactly once and in order");
    }
    assert_eq!(seen.last().map(String::as_str), Some("exit 137"), "init's exit is the last");
    guest.delete("c", INIT).await.expect("delete");
    daemon.stop().await;
}

/// An event whose sink was gone or too slow was not sent again: containerd/containerd#3177, #6771.
#[tokio::test]
async fn a_sink_that_never_reads_is_cut_off_and_the_next_one_gets_what_it_was_not_sent() {
    let daemon = Daemon::with_fake_runc().await;
    let (guest, valve) = (daemon.guest().await, Valve::before(&daemon));
    let client = Client::connect(&valve.guest().await.rpc).await.expect("connect");
    let mut stalled = client.events().await.expect("subscribe");
    running(&guest, "c", &["forever"]).await;
    assert!(matches!(stalled.next().await, Ok(Some(Event::Create { .. }))));
    assert!(matches!(stalled.next().await, Ok(Some(Event::Start { .. }))));
    valve.shut();
    for n in 0..TOO_MANY {
        let id = format!("e{n}");
        exec(&guest, "c", &id, &["exit", "0"]).await.expect("exec");
        guest.delete("c", &id).await.expect("delete");
    }
    guest.kill("c", INIT, 9).await.expect("kill");
    guest.wait("c", INIT).await.expect("wait");
    valve.open();
    let mut sent = Vec::new();
    let cut_off = loop {
        match stalled.next().await {
            Ok(Some(event)) => sent.push(added(&event)),
            Ok(None) => panic!("it was not told why its subscription ended"),
            Err(error) => break error,
        }
    };
    assert_eq!(cut_off.code(), Some(Code::RESOURCE_EXHAUSTED), "{cut_off}");

    let mut next = Client::connect(&daemon.rpc()).await.expect("connect").events().await.expect("subscribe");
    loop {
        match next.next().await.expect("an event").expect("no end") {
            Event::Exit { status, .. } => break assert_eq!(status, 137),
            event => sent.push(added(&event)),
        }
    }
    let all: Vec<String> = (0..TOO_MANY).map(|n| format!("e{n}")).collect();
    assert!(sent == all, "{} of {TOO_MANY} events came: {:?}", sent.len(), sent.last());
    daemon.stop().await;
}

fn added(event: &Event) -> String {
    match event {
        Event::ExecAdded { exec_id, .. } => exec_id.clone(),
        other => panic!("unexpected: {other:?}"),
    }
}

/// Two paths told of one exit: containerd/containerd#4769. Locks taken in two orders under such chaos:
/// containerd/rust-extensions#339.
#[tokio::test]
async fn kills_waits_and_deletes_at_once_make_one_exit_and_one_delete() {
    let daemon = Daemon::with_fake_runc().await;
    let (guest, events) = daemon.guest_and_events().await;
    let before = daemon.open_descriptors();
    let guest = Arc::new(guest);
    for n in 0..10 {
        let id = format!("c{n}");
        running(&guest, &id, &["forever"]).await;
        let mut waits = JoinSet::new();
        let mut deletes = JoinSet::new();
        for _ in 0..CALLERS {
            let (waiter, killer, deleter) = (guest.clone(), guest.clone(), guest.clone());
            let (waits_for, kills, removes) = (id.clone(), id.clone(), id.clone());
            waits.spawn(async move { waiter.wait(&waits_for, INIT).await.map(|exit| exit.status) });
            waits.spawn(async move { killer.kill(&kills, INIT, 9).await.map(|()| 137) });
            deletes.spawn(async move { until_deleted(&deleter, &removes).await });
        }
        for answer in waits.join_all().await {
            assert!(matches!(
                answer.as_ref().map_err(ClientError::code),
                Ok(137) | Err(Some(Code::NOT_FOUND))
            ));
        }
        let deleted = deletes.join_all().await;
        assert_eq!(deleted.iter().filter(|deleted| **deleted).count(), 1, "{id}: deleted once");
        assert_eq!(events.until(&id, "delete").await, ["create", "start", "exit 137", "delete"]);
    }
    daemon.assert_nothing_left(before).await;
    daemon.stop().await;
}

/// Deletes a container as soon as it may be; whether it was this call that did.
async fn until_deleted(guest: &Guest, id: &str) -> bool {
    loop {
        match guest.delete(id, INIT).await.map_err(|error| error.code()) {
            Ok(exit) => break exit.status == 137,
            Err(Some(Code::NOT_FOUND)) => break false,
            Err(Some(Code::FAILED_PRECONDITION)) => tokio::task::yield_now().await,
            Err(other) => panic!("{other:?}"),
        }
    }
}
