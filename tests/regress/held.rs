//! While one runc hangs, everything that does not need it answers. Nothing is timed: the answers come while the hold
//! is closed, and the call that hangs has not ended by then.
//!
//! A lock was held over slow work: containerd/containerd#13483, containerd/rust-extensions commit 7259c1c,
//! kata-containers/kata-containers#13452, #13116.

use std::future::Future;

use serde_json::json;
use tokio::task::JoinHandle;
use vminit_shim::api::containerd::api::{ConnectRequest, Status};
use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::{Guest, INIT};
use vminitd_test_support::calls::{
    brief, create, create_in, exec, kill_all, pause, pids, resume, running, running_in_shared_pids, state,
    status, stopped, update,
};
use vminitd_test_support::{code, Daemon, EventLog};

/// The container whose runc hangs.
const HELD: &str = "held";

/// A daemon with a call under way that does not end before its hold is released.
struct Hanging<T> {
    daemon: Daemon,
    guest: Guest,
    events: EventLog,
    call: JoinHandle<T>,
}

impl<T: Send + 'static> Hanging<T> {
    /// Has `call` hang in runc's `verb`, and sees that all that is not about that container goes on.
    async fn begin<F>(
        (daemon, guest, events): (Daemon, Guest, EventLog),
        verb: &str,
        call: impl FnOnce(Guest) -> F,
    ) -> Self
    where
        F: Future<Output = T> + Send + 'static,
    {
        daemon.script(&json!({verb: {HELD: {"hold": "gate"}}}));
        let call = tokio::spawn(call(daemon.guest().await));
        daemon.called(verb, HELD).await;
        let hanging = Self { daemon, guest, events, call };
        hanging.others_go_on().await;
        hanging
    }

    /// The life of another container, with an exec, from its bundle to its deletion.
    async fn others_go_on(&self) {
        let (guest, other) = (&self.guest, "other");
        running(guest, other, &["forever"]).await;
        exec(guest, other, "e", &["exit", "3"]).await.expect("exec");
        guest.start(other, "e").await.expect("start");
        assert_eq!(guest.wait(other, "e").await.expect("wait").status, 3);
        pids(guest, other).await.expect("pids");
        guest.kill(other, INIT, 9).await.expect("kill");
        assert_eq!(guest.wait(other, INIT).await.expect("wait").status, 137);
        guest.delete(other, INIT).await.expect("delete");
        self.events.until(other, "delete").await;
    }

    /// State and Connect of the container itself.
    async fn status(&self) -> Status {
        let request = ConnectRequest { id: HELD.into(), ..Default::default() };
        let connected = self.guest.client.task().connect(brief(), &request).await.expect("connect");
        assert_ne!(connected.task_pid, 0);
        status(&self.guest, HELD, INIT).await
    }

    /// Kill and Wait of the container itself.
    async fn is_killed(&self) {
        self.guest.kill(HELD, INIT, 9).await.expect("kill");
        assert_eq!(self.guest.wait(HELD, INIT).await.expect("wait").status, 137);
    }

    /// Lets the call go on; its answer.
    async fn release(&mut self) -> T {
        assert!(!self.call.is_finished(), "the call did not hang: nothing was shown");
        self.daemon.release("gate");
        (&mut self.call).await.expect("join")
    }

    async fn end(self) {
        self.guest.delete(HELD, INIT).await.expect("delete");
        self.events.until(HELD, "delete").await;
        self.daemon.stop().await;
    }
}

async fn daemon() -> (Daemon, Guest, EventLog) {
    let daemon = Daemon::with_fake_runc().await;
    let (guest, events) = daemon.guest_and_events().await;
    (daemon, guest, events)
}

async fn daemon_with_held_one_running() -> (Daemon, Guest, EventLog) {
    let all = daemon().await;
    running(&all.1, HELD, &["forever"]).await;
    all
}

#[tokio::test]
async fn everything_answers_while_a_create_hangs() {
    let call = |guest| async move { create(&guest, HELD, &["forever"]).await };
    let mut hanging = Hanging::begin(daemon().await, "create", call).await;
    assert_eq!(state(&hanging.guest, HELD, INIT).await, Err(Code::NOT_FOUND));
    assert_eq!(create_in(&hanging.guest, HELD, "/nowhere").await, Err(Code::ALREADY_EXISTS));
    hanging.release().await.expect("create");
    assert_eq!(hanging.status().await, Status::CREATED);
    hanging.is_killed().await;
    hanging.end().await;
}

#[tokio::test]
async fn everything_answers_while_a_start_hangs() {
    let all = daemon().await;
    create(&all.1, HELD, &["exit", "0"]).await.expect("create");
    let mut hanging =
        Hanging::begin(all, "start", |guest| async move { guest.start(HELD, INIT).await }).await;
    assert_eq!(hanging.status().await, Status::CREATED);
    hanging.guest.kill(HELD, INIT, 9).await.expect("kill");
    stopped(&hanging.guest, HELD, INIT).await;
    assert_eq!(code(hanging.guest.kill(HELD, INIT, 9).await), Code::NOT_FOUND);
    assert_eq!(hanging.events.of(HELD), ["create"], "no exit before its start is decided");
    hanging.release().await.expect_err("it died before it was started");
    assert_eq!(hanging.events.until(HELD, "exit 137").await, ["create", "exit 137"]);
    hanging.end().await;
}

#[tokio::test]
async fn everything_answers_while_the_start_of_an_exec_hangs() {
    let all = daemon_with_held_one_running().await;
    exec(&all.1, HELD, "e", &["exit", "4"]).await.expect("exec");
    let mut hanging = Hanging::begin(all, "exec", |guest| async move { guest.start(HELD, "e").await }).await;
    assert_eq!(hanging.status().await, Status::RUNNING);
    assert_eq!(status(&hanging.guest, HELD, "e").await, Status::CREATED);
    assert_eq!(code(hanging.guest.kill(HELD, "e", 9).await), Code::FAILED_PRECONDITION);
    hanging.release().await.expect("start");
    assert_eq!(hanging.guest.wait(HELD, "e").await.expect("wait").status, 4);
    hanging.is_killed().await;
    hanging.end().await;
}

#[tokio::test]
async fn everything_answers_while_a_kill_of_all_hangs() {
    let all = daemon_with_held_one_running().await;
    let mut hanging =
        Hanging::begin(all, "kill", |guest| async move { kill_all(&guest, HELD, 15).await }).await;
    assert_eq!(hanging.status().await, Status::RUNNING);
    hanging.is_killed().await;
    hanging.release().await.expect("there is nobody left to kill, which is no error");
    hanging.end().await;
}

/// The consumer of exits did the killing, which needs exits: containerd/containerd#12678, #13653, #13849.
#[tokio::test]
async fn every_other_exit_is_told_while_the_kill_all_of_a_dead_init_hangs() {
    let all = daemon().await;
    running_in_shared_pids(&all.1, HELD, &["forever"]).await;
    let mut hanging = Hanging::begin(all, "kill", |guest| async move {
        guest.kill(HELD, INIT, 9).await.expect("kill");
        guest.wait(HELD, INIT).await.expect("wait").status
    })
    .await;
    assert_eq!(hanging.status().await, Status::STOPPED);
    assert_eq!(hanging.events.of(HELD), ["create", "start"], "no exit before the rest was killed");
    assert_eq!(hanging.release().await, 137);
    hanging.end().await;
}

#[tokio::test]
async fn everything_answers_while_a_delete_hangs() {
    let all = daemon_with_held_one_running().await;
    all.1.kill(HELD, INIT, 9).await.expect("kill");
    all.1.wait(HELD, INIT).await.expect("wait");
    let mut hanging =
        Hanging::begin(all, "delete", |guest| async move { guest.delete(HELD, INIT).await }).await;
    assert_eq!(hanging.status().await, Status::STOPPED);
    assert_eq!(hanging.guest.wait(HELD, INIT).await.expect("wait").status, 137);
    assert_eq!(code(hanging.guest.kill(HELD, INIT, 9).await), Code::NOT_FOUND);
    assert_eq!(code(hanging.guest.delete(HELD, INIT).await), Code::FAILED_PRECONDITION);
    assert_eq!(hanging.release().await.expect("delete").status, 137);
    assert_eq!(hanging.events.until(HELD, "delete").await, ["create", "start", "exit 137", "delete"]);
    hanging.daemon.stop().await;
}

#[tokio::test]
async fn everything_answers_while_a_ps_hangs() {
    let all = daemon_with_held_one_running().await;
    let mut hanging = Hanging::begin(all, "ps", |guest| async move { pids(&guest, HELD).await }).await;
    assert_eq!(hanging.status().await, Status::RUNNING);
    hanging.is_killed().await;
    hanging.release().await.expect("there is nobody left to list, which is no error");
    hanging.end().await;
}

#[tokio::test]
async fn everything_answers_while_a_pause_hangs() {
    let all = daemon_with_held_one_running().await;
    let mut hanging = Hanging::begin(all, "pause", |guest| async move { pause(&guest, HELD).await }).await;
    assert_eq!(hanging.status().await, Status::PAUSING);
    hanging.is_killed().await;
    assert_eq!(hanging.status().await, Status::STOPPED);
    assert_eq!(code(hanging.release().await), Code::FAILED_PRECONDITION, "it is dead");
    hanging.end().await;
}

#[tokio::test]
async fn everything_answers_while_a_resume_hangs() {
    let all = daemon_with_held_one_running().await;
    pause(&all.1, HELD).await.expect("pause");
    let mut hanging = Hanging::begin(all, "resume", |guest| async move { resume(&guest, HELD).await }).await;
    assert_eq!(hanging.status().await, Status::PAUSED);
    hanging.is_killed().await;
    assert_eq!(code(hanging.release().await), Code::FAILED_PRECONDITION, "it is dead");
    hanging.end().await;
}

#[tokio::test]
async fn everything_answers_while_an_update_hangs() {
    let all = daemon_with_held_one_running().await;
    let mut hanging =
        Hanging::begin(all, "update", |guest| async move { update(&guest, HELD, Some("{}")).await }).await;
    assert_eq!(hanging.status().await, Status::RUNNING);
    hanging.is_killed().await;
    assert_eq!(code(hanging.release().await), Code::FAILED_PRECONDITION, "it is dead");
    hanging.end().await;
}
