//! Execs that are added and never started cost what they keep, and that has a bound.

use serde_json::{json, Value};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::{Exec, Guest, Stdio, INIT};
use vminit_shim::spec;
use vminitd_test_support::calls::{exec, running};
use vminitd_test_support::{code, Daemon, Level, LIMIT};

/// Execs that a container may have.
const EXECS_MAX: usize = 1_024;
/// More than a third of what specs that wait may have together, and less than half of it.
const LONG: usize = 3_900_000;

/// Adds an exec whose environment has this many bytes.
async fn add(guest: &Guest, exec_id: &str, bytes: usize) -> Result<(), Code> {
    let mut process: Value = spec::process(&["exit", "0"]);
    process["env"] = json!([format!("A={}", "x".repeat(bytes))]);
    let exec = Exec { container_id: "c", exec_id, process: &process };
    guest.exec(exec, &Stdio::default()).await.map_err(|error| error.code().expect("an answer of the daemon"))
}

#[tokio::test]
async fn the_execs_of_a_container_are_limited() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    running(&guest, "c", &["forever"]).await;
    for n in 0..EXECS_MAX {
        exec(&guest, "c", &format!("e{n}"), &["exit", "0"]).await.expect("exec");
    }
    let more = exec(&guest, "c", "more", &["exit", "0"]).await;
    assert_eq!(code(more), Code::RESOURCE_EXHAUSTED);
    running(&guest, "other", &["forever"]).await;
    exec(&guest, "other", "e", &["exit", "0"]).await.expect("exec in another container");
    guest.delete("c", "e0").await.expect("delete");
    exec(&guest, "c", "more", &["exit", "0"]).await.expect("exec in its place");
    daemon.stop().await;
}

#[tokio::test]
async fn the_specs_that_wait_for_a_start_are_limited() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    running(&guest, "c", &["forever"]).await;
    for long in ["e1", "e2"] {
        add(&guest, long, LONG).await.expect("exec");
    }
    assert_eq!(add(&guest, "e3", LONG).await, Err(Code::RESOURCE_EXHAUSTED));
    add(&guest, "short", 1_000).await.expect("exec");
    guest.start("c", "e1").await.expect("start");
    add(&guest, "e3", LONG).await.expect("exec in the room of one that was started");
    daemon.stop().await;
}

#[tokio::test]
async fn what_was_never_started_lets_go_of_its_streams_with_the_init() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    running(&guest, "c", &["forever"]).await;
    let before = Level::of(&daemon).descriptors;
    let mut stdio = guest.stdio(false).await.expect("streams");
    let process = spec::process(&["exit", "0"]);
    let late = Exec { container_id: "c", exec_id: "late", process: &process };
    guest.exec(late, &stdio).await.expect("exec");
    for n in 0..50 {
        exec(&guest, "c", &format!("e{n}"), &["exit", "0"]).await.expect("exec");
    }
    guest.kill("c", INIT, 9).await.expect("kill");
    guest.wait("c", INIT).await.expect("wait");
    let mut output = Vec::new();
    let mut stdout = stdio.stdout.take().expect("a stream").socket;
    timeout(LIMIT, stdout.read_to_end(&mut output)).await.expect("it ends").expect("read");
    assert_eq!(output, b"");
    let left = daemon.open_descriptors();
    assert!(left <= before, "{before} descriptors became {left}");
    assert_eq!(code(guest.start("c", "late").await), Code::FAILED_PRECONDITION);
    guest.delete("c", "late").await.expect("delete");
    guest.delete("c", INIT).await.expect("delete");
    daemon.stop().await;
}
