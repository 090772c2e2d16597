//! The daemon as its host sees it, on the machine's real runc. Needs root and runc; says so and passes without.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use vminit_shim::api::containerd::api::Status;
use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::{Container, Exec, Stdio, INIT};
use vminit_shim::spec;
use vminitd_test_support::calls::{create_in, state, status};
use vminitd_test_support::{code, rootfs, Machine};

/// How many processes must come and go without a mistake.
const MANY: usize = 200;
/// How many of them at once.
const AT_ONCE: usize = 8;

/// Signals 32 and 33, which glibc keeps for its threads. The test's own `Command` starts the daemon with the first of
/// them ignored, as posix_spawn(3) does, and neither glibc nor musl lets a program change that for its children.
const OF_THE_C_LIBRARY: u64 = 0b11 << 31;

// ---- early exits

/// Exits lost or told twice: containerd/containerd#4769, #12678, containerd/rust-extensions#270, #339.
#[tokio::test]
async fn each_of_many_containers_of_true_has_one_exit_after_its_start() {
    let Some(machine) = Machine::start().await else { return };
    let before = machine.daemon.open_descriptors();
    let root = Arc::new(machine.root.clone());
    let guests = [0; AT_ONCE].map(|_| machine.daemon.guest());
    let mut workers = JoinSet::new();
    for (worker, guest) in guests.into_iter().enumerate() {
        let (guest, root) = (guest.await, root.clone());
        workers.spawn(async move {
            for n in (worker..MANY).step_by(AT_ONCE) {
                let id = format!("true-{n}");
                let config = rootfs::config(&root, &id, &["/bin/true"]);
                let container = Container { id: &id, config: &config, rootfs: &[] };
                guest.create(container, &Stdio::default()).await.expect("create");
                guest.start(&id, INIT).await.expect("start");
                assert_eq!(guest.wait(&id, INIT).await.expect("wait").status, 0);
                guest.delete(&id, INIT).await.expect("delete");
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker.expect("no worker fails");
    }
    for n in 0..MANY {
        let id = format!("true-{n}");
        assert_eq!(
            machine.events.until(&id, "delete").await,
            ["create", "start", "exit 0", "delete"],
            "{id}"
        );
    }
    machine.daemon.assert_nothing_left(before).await;
    machine.daemon.stop().await;
}

/// The same of execs: containerd/containerd#2709, #8557, #9999. All of them at once: `blackbox_regress_runc.rs`.
#[tokio::test]
async fn each_of_many_execs_of_true_has_one_exit_after_its_start() {
    let Some(machine) = Machine::start().await else { return };
    let before = machine.daemon.open_descriptors();
    machine.sleeping("execs").await;
    let process: Arc<Value> = Arc::new(spec::process(&["/bin/true"]));
    let guests = [0; AT_ONCE].map(|_| machine.daemon.guest());
    let mut workers = JoinSet::new();
    for (worker, guest) in guests.into_iter().enumerate() {
        let (guest, process) = (guest.await, process.clone());
        workers.spawn(async move {
            for n in (worker..MANY).step_by(AT_ONCE) {
                let exec_id = format!("e{n}");
                let exec = Exec { container_id: "execs", exec_id: &exec_id, process: &process };
                guest.exec(exec, &Stdio::default()).await.expect("exec");
                guest.start("execs", &exec_id).await.expect("start");
                assert_eq!(guest.wait("execs", &exec_id).await.expect("wait").status, 0);
                guest.delete("execs", &exec_id).await.expect("delete");
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker.expect("no worker fails");
    }
    machine.guest.kill("execs", INIT, 9).await.expect("kill");
    let seen = machine.events.until("execs", "exit 137").await;
    for n in 0..MANY {
        let life = [format!("exec-added e{n}"), format!("exec-started e{n}"), format!("exit e{n} 0")];
        let its: Vec<&String> = seen.iter().filter(|event| life.contains(event)).collect();
        assert_eq!(its, life.iter().collect::<Vec<_>>(), "exactly once and in order");
    }
    assert_eq!(seen.last().map(String::as_str), Some("exit 137"), "init's exit is the last");
    machine.guest.delete("execs", INIT).await.expect("delete");
    machine.daemon.assert_nothing_left(before).await;
    machine.daemon.stop().await;
}

// ---- how containers end

#[tokio::test]
async fn a_container_killed_by_sigkill_reports_137() {
    let Some(machine) = Machine::start().await else { return };
    machine.sleeping("sigkill").await;
    machine.guest.kill("sigkill", INIT, 9).await.expect("kill");
    assert_eq!(machine.guest.wait("sigkill", INIT).await.expect("wait").status, 137);
    machine.daemon.stop().await;
}

/// The bare number of the signal was reported: kata-containers/kata-containers#13241.
///
/// The kernel drops signals without a handler for the init of a pid namespace, SIGKILL and SIGSTOP apart
/// (pid_namespaces(7)), so this init shares the machine's.
#[tokio::test]
async fn an_init_that_does_not_handle_sigterm_reports_143() {
    let Some(machine) = Machine::start().await else { return };
    machine.running_in_shared_pids("sigterm", &["/bin/sleep", "1000"]).await;
    machine.guest.kill("sigterm", INIT, 15).await.expect("kill");
    assert_eq!(machine.guest.wait("sigterm", INIT).await.expect("wait").status, 143);
    machine.daemon.stop().await;
}

#[tokio::test]
async fn an_init_that_traps_sigterm_decides_its_own_status() {
    let Some(machine) = Machine::start().await else { return };
    let script = "trap 'exit 3' TERM; echo > /tmp/trapped; while true; do sleep 0.1; done";
    machine.running("trap", &["/bin/sh", "-c", script]).await;
    machine.wrote("trapped", |text| !text.is_empty()).await;
    machine.guest.kill("trap", INIT, 15).await.expect("kill");
    assert_eq!(machine.guest.wait("trap", INIT).await.expect("wait").status, 3);
    machine.daemon.stop().await;
}

#[tokio::test]
async fn an_init_starts_with_no_signal_blocked_or_ignored() {
    let Some(machine) = Machine::start().await else { return };
    // The shell changes dispositions of its own, so the reader is exec'd by runc itself.
    let finished = machine.run("masks", &["/bin/grep", "^Sig[BI]", "/proc/self/status"]).await;
    let text = String::from_utf8(finished.stdout).expect("text");
    let masks: Vec<u64> = text
        .split_whitespace()
        .filter(|word| !word.ends_with(':'))
        .map(|mask| u64::from_str_radix(mask, 16).expect("a mask is hexadecimal"))
        .collect();
    let [blocked, ignored] = masks[..] else { panic!("not two masks: {text}") };
    assert_eq!((blocked, ignored & !OF_THE_C_LIBRARY), (0, 0), "{text}");
    machine.daemon.stop().await;
}

// ---- refusals

#[tokio::test]
async fn a_missing_executable_fails_create_with_runcs_own_message() {
    let Some(machine) = Machine::start().await else { return };
    let before = machine.daemon.open_descriptors();
    let error = machine.create("missing", &["/no/such/program"]).await.expect_err("there is no such program");
    let text = error.to_string();
    assert!(text.contains("/no/such/program") && text.contains("no such file or directory"), "{text}");
    assert!(machine.events.of("missing").is_empty());
    machine.daemon.remove_bundle("missing");
    machine.daemon.assert_nothing_left(before).await;
    machine.daemon.stop().await;
}

#[tokio::test]
async fn a_second_create_leaves_the_first_container_alone() {
    let Some(machine) = Machine::start().await else { return };
    machine.sleeping("twice").await;
    assert_eq!(code(machine.create("twice", &["/bin/true"]).await), Code::ALREADY_EXISTS);
    let bundle = machine.daemon.bundle("twice").display().to_string();
    assert_eq!(create_in(&machine.guest, "twice", &bundle).await, Err(Code::ALREADY_EXISTS));
    assert_eq!(status(&machine.guest, "twice", INIT).await, Status::RUNNING);
    assert_eq!(machine.events.of("twice"), ["create", "start"]);
    machine.daemon.stop().await;
}

// ---- stdio

#[tokio::test]
async fn stdout_and_stderr_arrive_apart_and_whole() {
    let Some(machine) = Machine::start().await else { return };
    let before = machine.daemon.open_descriptors();
    let finished = machine.run("apart", &["/bin/sh", "-c", "echo out; echo err >&2; exit 7"]).await;
    assert_eq!((finished.stdout.as_slice(), finished.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(finished.exit.status, 7);
    machine.daemon.assert_nothing_left(before).await;
    machine.daemon.stop().await;
}

#[tokio::test]
async fn eight_mebibytes_of_output_are_lossless() {
    let Some(machine) = Machine::start().await else { return };
    let lines = 8 * 1024 * 1024 / 16;
    // Numbered lines of 16 bytes: what is lost, doubled or out of place shows.
    let script = format!("i=0; while [ $i -lt {lines} ]; do echo $((1000000000 + i))abcde; i=$((i+1)); done");
    let finished = machine.run("lossless", &["/bin/sh", "-c", &script]).await;
    assert_eq!(finished.exit.status, 0);
    let text = String::from_utf8(finished.stdout).expect("text");
    assert_eq!(text.len(), lines * 16);
    let misplaced = text.lines().enumerate().find(|(n, line)| *line != format!("{}abcde", 1_000_000_000 + n));
    assert_eq!(misplaced, None);
    machine.daemon.stop().await;
}

#[tokio::test]
async fn stdin_reaches_the_process_to_its_end() {
    let Some(machine) = Machine::start().await else { return };
    let mut stdio = machine.guest.stdio(true).await.expect("streams");
    let config = machine.config("stdin", &["/bin/cat"]);
    machine.create_with("stdin", &config, &stdio).await.expect("create");
    let mut stdin = stdio.stdin.take().expect("stdin was asked for");
    let output = stdio.collect();
    machine.guest.start("stdin", INIT).await.expect("start");
    let text = vec![b'x'; 1 << 20];
    stdin.socket.write_all(&text).await.expect("write");
    drop(stdin);
    assert_eq!(machine.guest.wait("stdin", INIT).await.expect("wait").status, 0);
    machine.guest.delete("stdin", INIT).await.expect("delete");
    let (stdout, _) = output.finish().await.expect("output");
    assert!(stdout == text, "{} of {} bytes came back", stdout.len(), text.len());
    machine.daemon.stop().await;
}

#[tokio::test]
async fn a_peer_that_goes_away_does_not_block_the_process() {
    let Some(machine) = Machine::start().await else { return };
    let stdio = machine.guest.stdio(false).await.expect("streams");
    let config = machine.config("gone", &["/bin/dd", "if=/dev/zero", "bs=65536", "count=64"]);
    machine.create_with("gone", &config, &stdio).await.expect("create");
    drop(stdio);
    machine.guest.start("gone", INIT).await.expect("start");
    assert_eq!(machine.guest.wait("gone", INIT).await.expect("wait").status, 0);
    machine.daemon.stop().await;
}

#[tokio::test]
async fn an_exit_does_not_wait_for_a_child_that_keeps_stdout() {
    let Some(machine) = Machine::start().await else { return };
    machine.sleeping("holder").await;
    let stdio = machine.guest.stdio(false).await.expect("streams");
    let process = spec::process(&["/bin/sh", "-c", "sleep 1000 & exit 6"]);
    let exec = Exec { container_id: "holder", exec_id: "e", process: &process };
    machine.guest.exec(exec, &stdio).await.expect("exec");
    machine.guest.start("holder", "e").await.expect("start");
    assert_eq!(machine.guest.wait("holder", "e").await.expect("wait").status, 6);
    machine.daemon.stop().await;
}

// ---- the end

#[tokio::test]
async fn sigterm_leaves_no_container_behind() {
    let Some(machine) = Machine::start().await else { return };
    machine.sleeping("left-running").await;
    machine.create("left-created", &["/bin/true"]).await.expect("create");
    let pid = state(&machine.guest, "left-running", INIT).await.expect("state").pid;
    machine.daemon.stop().await;
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "the container's init outlives the daemon");
}
