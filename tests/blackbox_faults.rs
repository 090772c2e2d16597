//! What goes wrong between two calls: nothing is lost, nothing is left.

use std::fs;
use std::pin::pin;
use std::time::Duration;

use nix::mount::{mount, MsFlags};
use nix::unistd::geteuid;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use vminit_shim::api::containerd::api::{CreateTaskRequest, Mount, PidsRequest};
use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::{context, Exec, INIT};
use vminit_shim::spec;
use vminitd_test_support::calls::{
    answer_at_once, brief, exec, rpc_code, running, running_in_shared_pids, stopped,
};
use vminitd_test_support::{code, leaks, poll_until, Daemon, LIMIT};

/// More than a socket and a pipe hold, so that the last of it waits for its reader.
const OUTPUT_BYTES: usize = 240_000;

#[tokio::test]
async fn a_waiter_of_an_exec_that_never_ran_is_released_by_the_delete_of_its_container() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    let before = daemon.open_descriptors();
    running(&guest, "c", &["forever"]).await;
    let stdio = guest.stdio(true).await.expect("streams");
    let process = spec::process(&["exit", "0"]);
    guest.exec(Exec { container_id: "c", exec_id: "e", process: &process }, &stdio).await.expect("exec");
    let mut waiting = pin!(guest.wait("c", "e"));
    assert_eq!(answer_at_once(&guest, &mut waiting).await.map(code), None);
    guest.kill("c", INIT, 9).await.expect("kill");
    guest.wait("c", INIT).await.expect("wait");
    guest.delete("c", INIT).await.expect("delete");
    let refused = timeout(LIMIT, waiting).await.expect("in time");
    assert_eq!(code(refused), Code::FAILED_PRECONDITION);
    drop(stdio);
    daemon.assert_nothing_left(before).await;
    daemon.stop().await;
}

/// Init's exit was never told when an exec raced with it: containerd/containerd#10589, #10651.
#[tokio::test]
async fn an_exec_that_slips_past_kill_all_is_killed_and_does_not_hold_back_the_exit_of_init() {
    let daemon = Daemon::with_fake_runc().await;
    let (guest, events) = daemon.guest_and_events().await;
    running_in_shared_pids(&guest, "c", &["forever"]).await;
    exec(&guest, "c", "e", &["forever"]).await.expect("exec");
    // The exec runs, its runc has not said so yet, and kill-all does not find it.
    daemon.script(&json!({"exec": {"c": {"linger": "gate"}}, "kill": {"c": {"fail": "no cgroup"}}}));
    let other = daemon.guest().await;
    let starting = tokio::spawn(async move { other.start("c", "e").await });
    daemon.called("exec", "c").await;
    guest.kill("c", INIT, 9).await.expect("kill");
    stopped(&guest, "c", INIT).await;
    daemon.release("gate");
    // Whether the start succeeds depends on who was first; the exits come all the same.
    let _ = starting.await.expect("join");
    let seen = events.until("c", "exit 137").await;
    assert_eq!(seen.last().map(String::as_str), Some("exit 137"));
    guest.delete("c", INIT).await.expect("delete");
    daemon.stop().await;
}

#[tokio::test]
async fn output_of_an_exec_outlives_the_delete_of_its_container() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    running(&guest, "c", &["forever"]).await;
    let mut stdio = guest.stdio(false).await.expect("streams");
    let script = format!("head -c {OUTPUT_BYTES} /dev/zero");
    let process = spec::process(&["/bin/sh", "-c", &script]);
    guest.exec(Exec { container_id: "c", exec_id: "e", process: &process }, &stdio).await.expect("exec");
    guest.start("c", "e").await.expect("start");
    guest.wait("c", "e").await.expect("wait");
    guest.kill("c", INIT, 9).await.expect("kill");
    guest.wait("c", INIT).await.expect("wait");
    let mut output = Vec::new();
    let mut stdout = stdio.stdout.take().expect("a stream").socket;
    let (deleted, read) = tokio::join!(guest.delete("c", INIT), stdout.read_to_end(&mut output));
    deleted.expect("delete");
    read.expect("read");
    assert_eq!(output.len(), OUTPUT_BYTES);
    daemon.stop().await;
}

#[tokio::test]
async fn what_is_mounted_in_a_bundle_is_not_removed_with_it() {
    if !geteuid().is_root() {
        return eprintln!("skipped: mounting needs root");
    }
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    let precious = daemon.dir().join("precious");
    fs::create_dir(&precious).expect("make a folder");
    fs::write(precious.join("file"), "x").expect("write a file");
    let bundle = guest.bundle("c", &spec::container(&["exit", "0"])).await.expect("bundle");
    let rootfs = format!("{bundle}/rootfs");
    mount(Some(&precious), rootfs.as_str(), None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("bind");
    let in_place = Mount { type_: "bind".into(), source: rootfs.clone(), ..Default::default() };
    let id = "c".to_owned();
    let request = CreateTaskRequest { id, bundle, rootfs: vec![in_place], ..Default::default() };
    guest.client.task().create(brief(), &request).await.expect("create");
    guest.start("c", INIT).await.expect("start");
    guest.wait("c", INIT).await.expect("wait");
    guest.delete("c", INIT).await.expect("delete");
    assert!(precious.join("file").exists(), "a file of a mounted file system is gone");
    daemon.stop().await;
}

#[tokio::test]
async fn the_streams_of_a_refused_create_are_closed() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    running(&guest, "c", &["forever"]).await;
    let mut stdio = guest.stdio(false).await.expect("streams");
    let [stdin, stdout, stderr] = stdio.uris();
    let (id, bundle) = ("c".to_owned(), "/x".to_owned());
    let request = CreateTaskRequest { id, bundle, stdin, stdout, stderr, ..Default::default() };
    let refused = guest.client.task().create(brief(), &request).await.map_err(rpc_code);
    assert_eq!(refused.expect_err("the id is taken"), Code::ALREADY_EXISTS);
    let mut socket = stdio.stdout.take().expect("a stream").socket;
    let end = timeout(Duration::from_secs(5), socket.read_to_end(&mut Vec::new())).await;
    end.expect("closed within 5 s").expect("read");
    daemon.stop().await;
}

/// That runc is held for ever: it ends at the deadline of a ps, 10 s.
#[tokio::test]
async fn a_caller_that_does_not_wait_for_pids_leaves_no_runc_behind() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    running(&guest, "c", &["forever"]).await;
    let before = leaks::children(daemon.pid()).len();
    daemon.script(&json!({"ps": {"c": {"hold": "never"}}}));
    let request = PidsRequest { id: "c".into(), ..Default::default() };
    let hasty = context(Duration::from_millis(100), "default");
    guest.client.task().pids(hasty, &request).await.expect_err("ps hangs");
    daemon.called("ps", "c").await;
    let look = || match leaks::children(daemon.pid()) {
        children if children.len() == before => Ok(()),
        children => Err(format!("{children:?}")),
    };
    poll_until(LIMIT, "the runc of a ps is gone", look).await;
    daemon.stop().await;
}
