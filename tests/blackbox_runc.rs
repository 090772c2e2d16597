//! The daemon as its host sees it, on the machine's real runc. Needs root and runc; says so and passes without.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use vminit_shim::api::containerd::api::{StateRequest, Status};
use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::{context, ClientError, Container, Exec, Guest, Stdio, INIT};
use vminit_shim::spec;
use vminitd_test_support::{binaries, code, poll_until, rootfs, Daemon, EventLog, LIMIT};

/// How many processes must come and go without a mistake.
const MANY: usize = 200;
/// How many of them at once.
const AT_ONCE: usize = 8;

/// Signals 32 and 33, which glibc keeps for its threads. The test's own `Command` starts the daemon with the first of
/// them ignored, as posix_spawn(3) does, and neither glibc nor musl lets a program change that for its children.
const OF_THE_C_LIBRARY: u64 = 0b11 << 31;

/// A daemon on the real runc, with a root file system for its containers.
struct Machine {
    daemon: Daemon,
    guest: Guest,
    events: EventLog,
    root: PathBuf,
}

impl Machine {
    async fn start() -> Option<Self> {
        let runc = binaries::real_runc()?;
        let daemon = Daemon::with_runtime(&runc).await;
        let root = rootfs::busybox(daemon.dir());
        let (guest, events) = daemon.guest_and_events().await;
        Some(Self { daemon, guest, events, root })
    }

    async fn create(&self, id: &str, args: &[&str]) -> Result<u32, ClientError> {
        create(&self.guest, &self.root, id, args, &Stdio::default()).await
    }

    async fn running(&self, id: &str, args: &[&str]) {
        self.create(id, args).await.expect("create");
        self.guest.start(id, INIT).await.expect("start");
    }

    async fn status(&self, id: &str) -> Status {
        let request = StateRequest { id: id.into(), ..Default::default() };
        let state = self.guest.client.task().state(context(LIMIT, "default"), &request).await.expect("state");
        state.status.enum_value().expect("a known status")
    }

    /// Runs a shell's script in a new container, to the end; its exit status and what it wrote to stdout.
    async fn shell(&self, id: &str, script: &str) -> (u32, String) {
        let config = rootfs::config(&self.root, id, &["/bin/sh", "-c", script]);
        let finished = self.guest.run(Container { id, config: &config, rootfs: &[] }).await.expect("run");
        (finished.exit.status, String::from_utf8(finished.stdout).expect("text"))
    }

    /// Waits until the process has written `line` to the file `/tmp/<name>` of the root file system.
    async fn wrote(&self, name: &str) {
        let path = self.root.join("tmp").join(name);
        let look = || if path.exists() { Ok(()) } else { Err("not yet".to_owned()) };
        poll_until(LIMIT, &format!("the container writes {name}"), look).await;
    }
}

async fn create(
    guest: &Guest,
    root: &Path,
    id: &str,
    args: &[&str],
    stdio: &Stdio,
) -> Result<u32, ClientError> {
    let config = rootfs::config(root, id, args);
    guest.create(Container { id, config: &config, rootfs: &[] }, stdio).await
}

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
                create(&guest, &root, &id, &["/bin/true"], &Stdio::default()).await.expect("create");
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
    machine.running("execs", &["/bin/sleep", "1000"]).await;
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
    machine.running("sigkill", &["/bin/sleep", "1000"]).await;
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
    let mut config = rootfs::config(&machine.root, "sigterm", &["/bin/sleep", "1000"]);
    let namespaces = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
    namespaces.retain(|namespace| namespace["type"] != "pid");
    let container = Container { id: "sigterm", config: &config, rootfs: &[] };
    machine.guest.create(container, &Stdio::default()).await.expect("create");
    machine.guest.start("sigterm", INIT).await.expect("start");
    machine.guest.kill("sigterm", INIT, 15).await.expect("kill");
    assert_eq!(machine.guest.wait("sigterm", INIT).await.expect("wait").status, 143);
    machine.daemon.stop().await;
}

#[tokio::test]
async fn an_init_that_traps_sigterm_decides_its_own_status() {
    let Some(machine) = Machine::start().await else { return };
    let script = "trap 'exit 3' TERM; echo > /tmp/trapped; while true; do sleep 0.1; done";
    machine.running("trap", &["/bin/sh", "-c", script]).await;
    machine.wrote("trapped").await;
    machine.guest.kill("trap", INIT, 15).await.expect("kill");
    assert_eq!(machine.guest.wait("trap", INIT).await.expect("wait").status, 3);
    machine.daemon.stop().await;
}

#[tokio::test]
async fn an_init_starts_with_no_signal_blocked_or_ignored() {
    let Some(machine) = Machine::start().await else { return };
    // The shell changes dispositions of its own, so the reader is exec'd by runc itself.
    let config = rootfs::config(&machine.root, "masks", &["/bin/grep", "^Sig[BI]", "/proc/self/status"]);
    let container = Container { id: "masks", config: &config, rootfs: &[] };
    let finished = machine.guest.run(container).await.expect("run");
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
    let _ = std::fs::remove_dir_all(machine.daemon.dir().join("bundles/missing"));
    machine.daemon.assert_nothing_left(before).await;
    machine.daemon.stop().await;
}

#[tokio::test]
async fn a_second_create_leaves_the_first_container_alone() {
    let Some(machine) = Machine::start().await else { return };
    machine.running("twice", &["/bin/sleep", "1000"]).await;
    assert_eq!(code(machine.create("twice", &["/bin/true"]).await), Code::ALREADY_EXISTS);
    let bundle = machine.daemon.dir().join("bundles/twice").display().to_string();
    let request = vminit_shim::api::containerd::api::CreateTaskRequest {
        id: "twice".into(),
        bundle,
        ..Default::default()
    };
    let refused = machine.guest.client.task().create(context(LIMIT, "default"), &request).await;
    refused.expect_err("the id is taken");
    assert_eq!(machine.status("twice").await, Status::RUNNING);
    assert_eq!(machine.events.of("twice"), ["create", "start"]);
    machine.daemon.stop().await;
}

#[tokio::test]
async fn kill_after_exit_and_delete_while_running_are_refused_and_change_nothing() {
    let Some(machine) = Machine::start().await else { return };
    machine.running("refuse", &["/bin/sleep", "1000"]).await;
    assert_eq!(code(machine.guest.delete("refuse", INIT).await), Code::FAILED_PRECONDITION);
    assert_eq!(machine.status("refuse").await, Status::RUNNING);
    machine.guest.kill("refuse", INIT, 9).await.expect("kill");
    machine.guest.wait("refuse", INIT).await.expect("wait");
    assert_eq!(code(machine.guest.kill("refuse", INIT, 9).await), Code::NOT_FOUND);
    machine.guest.delete("refuse", INIT).await.expect("delete");
    assert_eq!(machine.events.until("refuse", "delete").await, ["create", "start", "exit 137", "delete"]);
    machine.daemon.stop().await;
}

// ---- stdio

#[tokio::test]
async fn stdout_and_stderr_arrive_apart_and_whole() {
    let Some(machine) = Machine::start().await else { return };
    let before = machine.daemon.open_descriptors();
    let args = ["/bin/sh", "-c", "echo out; echo err >&2; exit 7"];
    let config = rootfs::config(&machine.root, "apart", &args);
    let finished =
        machine.guest.run(Container { id: "apart", config: &config, rootfs: &[] }).await.expect("run");
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
    let (status, text) = machine.shell("lossless", &script).await;
    assert_eq!(status, 0);
    assert_eq!(text.len(), lines * 16);
    let misplaced = text.lines().enumerate().find(|(n, line)| *line != format!("{}abcde", 1_000_000_000 + n));
    assert_eq!(misplaced, None);
    machine.daemon.stop().await;
}

#[tokio::test]
async fn stdin_reaches_the_process_to_its_end() {
    let Some(machine) = Machine::start().await else { return };
    let mut stdio = machine.guest.stdio(true).await.expect("streams");
    create(&machine.guest, &machine.root, "stdin", &["/bin/cat"], &stdio).await.expect("create");
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
    let args = ["/bin/dd", "if=/dev/zero", "bs=65536", "count=64"];
    create(&machine.guest, &machine.root, "gone", &args, &stdio).await.expect("create");
    drop(stdio);
    machine.guest.start("gone", INIT).await.expect("start");
    assert_eq!(machine.guest.wait("gone", INIT).await.expect("wait").status, 0);
    machine.daemon.stop().await;
}

#[tokio::test]
async fn an_exit_does_not_wait_for_a_child_that_keeps_stdout() {
    let Some(machine) = Machine::start().await else { return };
    machine.running("holder", &["/bin/sleep", "1000"]).await;
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
    machine.running("left-running", &["/bin/sleep", "1000"]).await;
    machine.create("left-created", &["/bin/true"]).await.expect("create");
    let init = machine.guest.client.task();
    let request = StateRequest { id: "left-running".into(), ..Default::default() };
    let pid = init.state(context(LIMIT, "default"), &request).await.expect("state").pid;
    machine.daemon.stop().await;
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "the container's init outlives the daemon");
}
