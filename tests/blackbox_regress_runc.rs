//! Regressions that need the machine's real runc, and root; without, they say so and pass. Each test is named after what
//! it guards and names the issues it comes from. The others are in `blackbox_regress.rs`.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{json, Value};
use tokio::task::JoinSet;
use vminit_shim::api::containerd::api::{CreateTaskRequest, Mount, Status};
use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::INIT;
use vminitd_test_support::calls::{brief, kill_all, pause, rpc_code, state, status, stopped};
use vminitd_test_support::{
    binaries, code, code_of, deadly_signals, poll_until, Level, Machine, Wrapper, LIMIT,
};

/// Execs at once.
const EXECS: usize = 200;
/// Connections they are asked for on: one has room for 64 calls that change something.
const CONNECTIONS: usize = 4;

/// How soon an exit is told. Measured: 0.3 s on two cores; a reaper that waits 1 s for each shows.
const SOON: Duration = Duration::from_secs(5);

/// Lives of which half go wrong: those before the level is taken, and all.
const LIVES: (usize, usize) = (20, 70);

/// Holds back `runc exec` until the test lets it go on.
const SLOW_EXEC: &str = r#"
if [ "$verb" = exec ]; then
    : > "$here/called"
    while [ -d "$here" ] && ! [ -e "$here/gate" ]; do sleep 0.01; done
fi
"#;

/// Holds back the end of `runc pause`, with the job done, until the test lets it go on.
const SLOW_PAUSE: &str = r#"
if [ "$verb" = pause ]; then
    "$runtime" "$@" || exit
    : > "$here/called"
    while [ -d "$here" ] && ! [ -e "$here/gate" ]; do sleep 0.01; done
    exit 0
fi
"#;

/// Says in `/tmp/ready` that it listens, in `/tmp/terms` each SIGTERM, and ends with SIGUSR1.
const COUNTS_TERMS: &str = r#"
trap 'echo term >> /tmp/terms' TERM
trap 'exit 0' USR1
sh -c 'trap "echo child >> /tmp/terms" TERM; echo > /tmp/ready; while true; do sleep 0.01; done' &
while true; do sleep 0.01; done
"#;

// ---- exits

/// A deadlock with dozens of execs, and seconds for each of them: containerd/containerd#2709, #2748, #3525, #3529, #3540,
/// #8557; exits that were not told: containerd/rust-extensions commit eef8806, #270.
#[tokio::test]
async fn two_hundred_execs_at_once_have_one_exit_each_and_soon() {
    let Some(machine) = Machine::start().await else { return };
    let before = machine.daemon.open_descriptors();
    machine.sleeping("execs").await;
    let mut guests = Vec::new();
    for _ in 0..CONNECTIONS {
        guests.push(Arc::new(machine.daemon.guest().await));
    }
    let begun = Instant::now();
    let mut execs = JoinSet::new();
    for n in 0..EXECS {
        machine.exec("execs", &format!("e{n}"), &["/bin/true"]).await.expect("exec");
        let guest = guests[n % CONNECTIONS].clone();
        execs.spawn(async move {
            let name = format!("e{n}");
            guest.start("execs", &name).await.expect("start");
            let started = Instant::now();
            assert_eq!(guest.wait("execs", &name).await.expect("wait").status, 0);
            let told_after = started.elapsed();
            guest.delete("execs", &name).await.expect("delete");
            told_after
        });
    }
    let mut told_after = execs.join_all().await;
    told_after.sort();
    let p99 = told_after[EXECS * 99 / 100];
    println!("{EXECS} execs at once: {:?}; exit told after the start, p99: {p99:?}", begun.elapsed());
    assert!(p99 < SOON, "{p99:?}");
    machine.guest.kill("execs", INIT, 9).await.expect("kill");
    let seen = machine.events.until("execs", "exit 137").await;
    for n in 0..EXECS {
        let life = [format!("exec-added e{n}"), format!("exec-started e{n}"), format!("exit e{n} 0")];
        let its: Vec<&String> = seen.iter().filter(|event| life.contains(event)).collect();
        assert_eq!(its, life.iter().collect::<Vec<_>>(), "exactly once and in order");
    }
    machine.guest.delete("execs", INIT).await.expect("delete");
    drop(guests);
    machine.daemon.assert_nothing_left(before).await;
    machine.daemon.stop().await;
}

/// The count of starting execs was wrong when init died under them: containerd/containerd#10589, #10603, #10634, #10651.
#[tokio::test]
async fn an_init_that_dies_while_the_runc_of_an_exec_is_slow_has_its_exit_last() {
    let Some(runc) = binaries::real_runc() else { return };
    let wrapper = Wrapper::around(&runc, SLOW_EXEC);
    let machine = Machine::on(&wrapper.path()).await;
    let before = machine.daemon.open_descriptors();
    machine.sleeping("slow").await;
    machine.exec("slow", "e", &["/bin/true"]).await.expect("exec");
    let other = machine.daemon.guest().await;
    let starting = tokio::spawn(async move { other.start("slow", "e").await });
    wrapper.flagged("called").await;
    machine.guest.kill("slow", INIT, 9).await.expect("kill");
    stopped(&machine.guest, "slow", INIT).await;
    assert!(!starting.is_finished(), "the exec was not slow: nothing was shown");
    assert_eq!(machine.events.of("slow"), ["create", "start", "exec-added e"]);
    wrapper.flag("gate");
    starting.await.expect("join").expect_err("there is no container to start it in");
    assert_eq!(
        machine.events.until("slow", "exit 137").await,
        ["create", "start", "exec-added e", "exit 137"]
    );
    machine.guest.delete("slow", INIT).await.expect("delete");
    machine.daemon.assert_nothing_left(before).await;
    machine.daemon.stop().await;
}

/// A deadlock, or no exit: containerd/containerd#9103, #9104. One without a start came twice or not at all: #4769, #6429.
#[tokio::test]
async fn an_init_killed_between_create_and_start_has_one_exit_and_no_start() {
    let Some(machine) = Machine::start().await else { return };
    let before = machine.daemon.open_descriptors();
    machine.create("early", &["/bin/true"]).await.expect("create");
    machine.guest.kill("early", INIT, 9).await.expect("kill");
    assert_eq!(machine.guest.wait("early", INIT).await.expect("wait").status, 137);
    assert_eq!(code(machine.guest.start("early", INIT).await), Code::FAILED_PRECONDITION);
    assert_eq!(machine.guest.delete("early", INIT).await.expect("delete").status, 137);
    assert_eq!(machine.events.until("early", "delete").await, ["create", "exit 137", "delete"]);
    machine.daemon.assert_nothing_left(before).await;
    machine.daemon.stop().await;
}

/// What is frozen has to be thawed before it can die, on cgroup v1 (`runc kill` does so): opencontainers/runc#3134.
#[tokio::test]
async fn a_container_killed_while_its_pause_is_slow_dies() {
    let Some(runc) = binaries::real_runc() else { return };
    let wrapper = Wrapper::around(&runc, SLOW_PAUSE);
    let machine = Machine::on(&wrapper.path()).await;
    let before = machine.daemon.open_descriptors();
    machine.sleeping("frozen").await;
    let other = machine.daemon.guest().await;
    let pausing = tokio::spawn(async move { pause(&other, "frozen").await });
    wrapper.flagged("called").await;
    assert_eq!(status(&machine.guest, "frozen", INIT).await, Status::PAUSING);
    machine.guest.kill("frozen", INIT, 9).await.expect("kill");
    assert!(!pausing.is_finished(), "the pause was not slow: nothing was shown");
    wrapper.flag("gate");
    // It is dead, or on cgroup v1 frozen and to be thawed for its death.
    let paused = pausing.await.expect("join").map_err(code_of);
    assert!(matches!(paused, Ok(()) | Err(Code::FAILED_PRECONDITION)), "{paused:?}");
    let waited = tokio::time::timeout(LIMIT, machine.guest.wait("frozen", INIT)).await;
    assert_eq!(waited.expect("it dies").expect("wait").status, 137);
    machine.guest.delete("frozen", INIT).await.expect("delete");
    machine.daemon.assert_nothing_left(before).await;
    machine.daemon.stop().await;
}

// ---- being everybody's parent

/// Init's death in a shared pid namespace left the others alive, or their cgroup: opencontainers/runc#4047, #4102,
/// #4394; microsoft/opengcs#371; kata-containers commit ce3473d272.
#[tokio::test]
async fn what_an_init_leaves_in_a_shared_pid_namespace_dies_with_it() {
    let Some(machine) = Machine::start().await else { return };
    let before = machine.daemon.open_descriptors();
    // Orphans, two of them deaf to SIGTERM.
    let script = "for n in 1 2; do (sleep 1000 &); (sh -c 'trap \"\" TERM; sleep 1000' &); done; \
                  echo > /tmp/left; sleep 1000";
    machine.running_in_shared_pids("shared", &["/bin/sh", "-c", script]).await;
    machine.exec("shared", "e", &["/bin/sleep", "1000"]).await.expect("exec");
    machine.guest.start("shared", "e").await.expect("start");
    machine.wrote("left", |text| !text.is_empty()).await;
    machine.guest.kill("shared", INIT, 9).await.expect("kill");
    let seen = machine.events.until("shared", "exit 137").await;
    assert_eq!(seen, ["create", "start", "exec-added e", "exec-started e", "exit e 137", "exit 137"]);
    machine.guest.delete("shared", INIT).await.expect("delete");
    machine.daemon.assert_nothing_left(before).await;
    machine.daemon.stop().await;
}

/// kata-containers/kata-containers#13241: the bare number of the signal was reported.
#[tokio::test]
async fn an_exec_that_ends_by_a_signal_reports_128_and_its_number() {
    let Some(machine) = Machine::start().await else { return };
    machine.sleeping("signals").await;
    for signal in deadly_signals() {
        let name = format!("s{signal}");
        machine.exec("signals", &name, &["/bin/sleep", "1000"]).await.expect("exec");
        let pid = machine.guest.start("signals", &name).await.expect("start");
        is_program(pid, "sleep").await;
        machine.guest.kill("signals", &name, signal).await.expect("kill");
        assert_eq!(machine.guest.wait("signals", &name).await.expect("wait").status, 128 + signal);
    }
    machine.end("signals").await;
    machine.daemon.stop().await;
}

/// Waits until runc's own process has become this program: runc handles signals in its own way.
async fn is_program(pid: u32, name: &str) {
    let look = || match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(comm) if comm.trim() == name => Ok(()),
        other => Err(format!("it is {other:?}")),
    };
    poll_until(LIMIT, &format!("process {pid} becomes {name}"), look).await;
}

/// It reached every process, or one of them twice: kata-containers/kata-containers#13152, #13163.
#[tokio::test]
async fn a_sigterm_is_delivered_once_and_to_its_process_alone_unless_all_are_meant() {
    let Some(machine) = Machine::start().await else { return };
    for (id, all, expected) in [("one", false, &["term"][..]), ("all", true, &["child", "term"])] {
        for name in ["ready", "terms"] {
            let _ = fs::remove_file(machine.root.join("tmp").join(name));
        }
        machine.running(id, &["/bin/sh", "-c", COUNTS_TERMS]).await;
        machine.wrote("ready", |text| !text.is_empty()).await;
        match all {
            true => kill_all(&machine.guest, id, 15).await.expect("kill"),
            false => machine.guest.kill(id, INIT, 15).await.expect("kill"),
        }
        machine.wrote("terms", |text| text.lines().count() >= expected.len()).await;
        // Whatever else was sent was sent before this, and is handled before it is.
        machine.guest.kill(id, INIT, 10).await.expect("kill");
        assert_eq!(machine.guest.wait(id, INIT).await.expect("wait").status, 0);
        let mut terms: Vec<String> =
            machine.wrote("terms", |_| true).await.lines().map(str::to_owned).collect();
        terms.sort();
        assert_eq!(terms, expected, "all: {all}");
        machine.guest.delete(id, INIT).await.expect("delete");
    }
    machine.daemon.stop().await;
}

/// Children inherited what protected init: apple/containerization#682, #718; containers/crun#1357;
/// kata-containers/kata-containers#1111, #1114.
#[tokio::test]
async fn the_oom_score_of_a_container_is_its_specs_or_else_what_the_daemon_was_started_with() {
    let Some(machine) = Machine::start().await else { return };
    let of_daemon =
        fs::read_to_string(format!("/proc/{}/oom_score_adj", machine.daemon.pid())).expect("read");
    let mut config = machine.config("score", &["/bin/cat", "/proc/self/oom_score_adj"]);
    assert_eq!(score(&machine, "score", &config).await, of_daemon);
    config["process"]["oomScoreAdj"] = json!(321);
    assert_eq!(score(&machine, "score", &config).await, "321\n");
    machine.daemon.stop().await;
}

/// What a container prints that prints its score.
async fn score(machine: &Machine, id: &str, config: &Value) -> String {
    String::from_utf8(machine.run_with(id, config).await.stdout).expect("text")
}

/// An exec of what is not there hung for a minute: kata-containers/kata-containers#8026; containerd/containerd#1162.
#[tokio::test]
async fn an_exec_of_a_missing_command_is_refused_with_its_name() {
    let Some(machine) = Machine::start().await else { return };
    let before = machine.daemon.open_descriptors();
    machine.sleeping("missing").await;
    machine.exec("missing", "e", &["/no/such/program"]).await.expect("exec");
    let error = machine.guest.start("missing", "e").await.expect_err("there is no such program");
    assert!(error.to_string().contains("/no/such/program"), "{error}");
    assert_eq!(status(&machine.guest, "missing", "e").await, Status::CREATED);
    assert_eq!(machine.guest.delete("missing", "e").await.expect("delete").status, 0);
    machine.end("missing").await;
    machine.daemon.assert_nothing_left(before).await;
    machine.daemon.stop().await;
}

// ---- nothing grows

/// The issues are those of `regress/growth.rs`; here it is the real runc that leaves nothing.
#[tokio::test]
async fn fifty_lives_half_of_which_go_wrong_leave_the_daemon_as_it_was() {
    let Some(machine) = Machine::start().await else { return };
    let (warm_up, all) = LIVES;
    let mut before = None;
    for n in 0..all {
        if n == warm_up {
            before = Some(Level::of(&machine.daemon));
        }
        let id = format!("life-{n}");
        match n % 10 {
            1 => create_fails(&machine, &id, &machine.config(&id, &["/no/such/program"]), &[]).await,
            3 => create_fails(&machine, &id, &json!({"ociVersion": "1.0.2"}), &[]).await,
            5 => {
                let bad = Mount { type_: "nosuchfs".into(), source: "none".into(), ..Default::default() };
                create_fails(&machine, &id, &machine.config(&id, &["/bin/true"]), &[bad]).await;
            }
            7 => exec_fails(&machine, &id).await,
            9 => {
                machine.create(&id, &["/bin/true"]).await.expect("create");
                machine.end(&id).await;
            }
            _ => well(&machine, &id).await,
        }
        assert_eq!(state(&machine.guest, &id, INIT).await.expect_err("it is over"), Code::NOT_FOUND);
    }
    before.expect("there were more lives than that").is_back(&machine.daemon).await;
    machine.daemon.stop().await;
}

async fn well(machine: &Machine, id: &str) {
    let finished = machine.run(id, &["/bin/echo", "hello"]).await;
    assert_eq!((finished.exit.status, finished.stdout.as_slice()), (0, &b"hello\n"[..]));
}

async fn create_fails(machine: &Machine, id: &str, config: &Value, rootfs: &[Mount]) {
    let bundle = machine.guest.bundle(id, config).await.expect("bundle");
    let request = CreateTaskRequest { id: id.into(), bundle, rootfs: rootfs.to_vec(), ..Default::default() };
    let refused = machine.guest.client.task().create(brief(), &request).await.map_err(rpc_code);
    assert_eq!(refused.expect_err("it goes wrong"), Code::UNKNOWN, "{id}");
    machine.daemon.remove_bundle(id);
}

async fn exec_fails(machine: &Machine, id: &str) {
    machine.sleeping(id).await;
    machine.exec(id, "e", &["/no/such/program"]).await.expect("exec");
    machine.guest.start(id, "e").await.expect_err("there is no such program");
    machine.end(id).await;
}
