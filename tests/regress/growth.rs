//! Nothing grows: after hundreds of lives, half of which went wrong somewhere, the daemon holds what it held before.
//!
//! Pipes after a failed create: containerd/containerd#11885; FIFOs: #7604; an exec's pid file: #1743; sockets: #10193;
//! a goroutine for each wait: #11483; maps: #13856; reapers and threads: #9217, #9404, #4310, #6166, #6189;
//! containerd/rust-extensions commits ffa56db, 62798a0; descriptors: kata-containers/kata-containers#11504.

use std::fs;
use std::time::Duration;

use nix::unistd::geteuid;
use serde_json::{json, Value};
use vminit_shim::api::containerd::api::{CreateTaskRequest, Mount, StartRequest};
use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::{context, Container, Exec, Guest, Stdio, INIT};
use vminit_shim::spec;
use vminitd_test_support::calls::{create, exec, rpc_code, running, state};
use vminitd_test_support::{binaries, code, Daemon, EventLog, Level, Wrapper, LIMIT};

/// Where a life goes wrong.
#[derive(Debug, Clone, Copy)]
enum Fault {
    CreateFails,
    CreateDies,
    CreateLeavesNoPid,
    CreateNamesADeadPid,
    CreateOutlivesItsCaller,
    InitDiesInCreate,
    MountFails,
    StreamIsMissing,
    StartFails,
    ExecFails,
    ExecLeavesNoPid,
    DeleteFailsAtFirst,
}

const FAULTS: [Fault; 12] = [
    Fault::CreateFails,
    Fault::CreateDies,
    Fault::CreateLeavesNoPid,
    Fault::CreateNamesADeadPid,
    Fault::CreateOutlivesItsCaller,
    Fault::InitDiesInCreate,
    Fault::MountFails,
    Fault::StreamIsMissing,
    Fault::StartFails,
    Fault::ExecFails,
    Fault::ExecLeavesNoPid,
    Fault::DeleteFailsAtFirst,
];

/// How often each fault is met before the level is taken, and after.
const ROUNDS: (usize, usize) = (2, 12);

/// What a caller that gives up waits: less than any call takes that is held.
const HASTY: Duration = Duration::from_millis(50);

/// Does its job, then names a process in the pid file that is dead and was never in a container.
const LIE: &str = r#"if [ -e "$here/lie" ] && [ "$verb" = create ]; then "$runtime" "$@" && echo $$ > "$pid_file"; exit; fi"#;

struct Lives {
    daemon: Daemon,
    guest: Guest,
    events: EventLog,
    /// What containers are created on: a mount, where that is allowed, so that there is something to undo.
    rootfs: Vec<Mount>,
    // After the daemon, which uses it to clean up.
    wrapper: Wrapper,
}

impl Lives {
    async fn begin() -> Self {
        let wrapper = Wrapper::around(&binaries::fake_runc(), LIE);
        let daemon = Daemon::with_runtime(&wrapper.path()).await;
        let (guest, events) = daemon.guest_and_events().await;
        let source = daemon.dir().join("layer");
        fs::create_dir(&source).expect("make a folder");
        let (type_, source, options) = ("bind".into(), source.display().to_string(), vec!["bind".into()]);
        let mount = Mount { type_, source, options, ..Default::default() };
        let rootfs = if geteuid().is_root() { vec![mount] } else { Vec::new() };
        Self { daemon, guest, events, rootfs, wrapper }
    }

    /// Each fault once, and as many lives that are well.
    async fn round(&self, round: usize) {
        for (n, fault) in FAULTS.into_iter().enumerate() {
            self.well(&format!("well-{round}-{n}")).await;
            let id = format!("bad-{round}-{n}");
            self.go_wrong(fault, &id).await;
            self.daemon.script(&json!({}));
            assert_eq!(
                state(&self.guest, &id, INIT).await.expect_err("it is over"),
                Code::NOT_FOUND,
                "{fault:?}"
            );
        }
    }

    /// A container and an exec with output.
    async fn well(&self, id: &str) {
        let stdio = self.guest.stdio(true).await.expect("streams");
        let config = spec::container(&["cat"]);
        let container = Container { id, config: &config, rootfs: &self.rootfs };
        self.guest.create(container, &stdio).await.expect("create");
        self.guest.start(id, INIT).await.expect("start");
        let process = spec::process(&["write", "stdout", "hello", ";", "exit", "3"]);
        let ran = self.guest.run_exec(Exec { container_id: id, exec_id: "e", process: &process }).await;
        let ran = ran.expect("exec");
        assert_eq!((ran.exit.status, ran.stdout.as_slice()), (3, &b"hello"[..]));
        // The end of stdin is the end of its init.
        stdio.collect().finish().await.expect("output");
        assert_eq!(self.guest.wait(id, INIT).await.expect("wait").status, 0);
        self.guest.delete(id, INIT).await.expect("delete");
        self.events.until(id, "delete").await;
    }

    async fn go_wrong(&self, fault: Fault, id: &str) {
        match fault {
            Fault::CreateFails => self.create_fails(id, json!({"fail": "no"})).await,
            Fault::CreateDies => self.create_fails(id, json!({"die_signal": 9})).await,
            Fault::CreateLeavesNoPid => self.create_fails(id, json!({"no_pid_file": true})).await,
            Fault::CreateNamesADeadPid => {
                self.wrapper.flag("lie");
                self.create_fails(id, json!({})).await;
                self.wrapper.unflag("lie");
            }
            Fault::CreateOutlivesItsCaller => self.create_outlives_its_caller(id).await,
            Fault::InitDiesInCreate => {
                self.script("create", id, json!({"dead": "zombie"}));
                create(&self.guest, id, &["exit", "9"]).await.expect("create");
                self.guest.start(id, INIT).await.expect_err("it is dead");
                assert_eq!(self.guest.delete(id, INIT).await.expect("delete").status, 9);
            }
            Fault::MountFails => self.mount_fails(id).await,
            Fault::StreamIsMissing => self.stream_is_missing(id).await,
            Fault::StartFails => {
                self.script("start", id, json!({"fail": "no"}));
                create(&self.guest, id, &["exit", "0"]).await.expect("create");
                self.guest.start(id, INIT).await.expect_err("runc refuses");
                assert_eq!(self.guest.delete(id, INIT).await.expect("delete").status, 137);
            }
            Fault::ExecFails => self.exec_fails(id, json!({"fail": "no"})).await,
            Fault::ExecLeavesNoPid => self.exec_fails(id, json!({"no_pid_file": true})).await,
            Fault::DeleteFailsAtFirst => {
                self.script("delete", id, json!({"fail": "busy"}));
                running(&self.guest, id, &["exit", "0"]).await;
                self.guest.wait(id, INIT).await.expect("wait");
                self.guest.delete(id, INIT).await.expect_err("runc refuses");
                self.daemon.script(&json!({}));
                self.guest.delete(id, INIT).await.expect("delete");
            }
        }
    }

    fn script(&self, verb: &str, id: &str, behaviour: Value) {
        self.daemon.script(&json!({verb: {id: behaviour}}));
    }

    async fn create_fails(&self, id: &str, behaviour: Value) {
        self.script("create", id, behaviour);
        let stdio = self.guest.stdio(true).await.expect("streams");
        let config = spec::container(&["forever"]);
        let container = Container { id, config: &config, rootfs: &self.rootfs };
        self.guest.create(container, &stdio).await.expect_err("runc goes wrong");
        self.daemon.remove_bundle(id);
    }

    async fn create_outlives_its_caller(&self, id: &str) {
        let gate = format!("gate-{id}");
        self.script("create", id, json!({"hold": gate}));
        let bundle = self.guest.bundle(id, &spec::container(&["forever"])).await.expect("bundle");
        let request = CreateTaskRequest { id: id.into(), bundle, ..Default::default() };
        let gave_up = self.guest.client.task().create(context(HASTY, "default"), &request).await;
        gave_up.expect_err("it is held");
        self.daemon.called("create", id).await;
        self.daemon.release(&gate);
        self.events.until(id, "create").await;
        assert_eq!(self.guest.delete(id, INIT).await.expect("delete").status, 137);
    }

    /// Those before it succeed, and are undone.
    async fn mount_fails(&self, id: &str) {
        let bad = Mount { type_: "nosuchfs".into(), source: "none".into(), ..Default::default() };
        let rootfs = [&self.rootfs[..], &[bad]].concat();
        let config = spec::container(&["forever"]);
        let container = Container { id, config: &config, rootfs: &rootfs };
        self.guest.create(container, &Stdio::default()).await.expect_err("there is no such file system");
        self.daemon.remove_bundle(id);
    }

    async fn stream_is_missing(&self, id: &str) {
        let bundle = self.guest.bundle(id, &spec::container(&["forever"])).await.expect("bundle");
        let stdout = "stream://4000000000".to_owned();
        let request = CreateTaskRequest { id: id.into(), bundle, stdout, ..Default::default() };
        let refused = self.guest.client.task().create(context(LIMIT, "default"), &request).await;
        assert_eq!(refused.map_err(rpc_code).expect_err("there is no such stream"), Code::NOT_FOUND);
        self.daemon.remove_bundle(id);
    }

    async fn exec_fails(&self, id: &str, behaviour: Value) {
        self.script("exec", id, behaviour);
        running(&self.guest, id, &["forever"]).await;
        let stdio = self.guest.stdio(true).await.expect("streams");
        let process = spec::process(&["forever"]);
        self.guest
            .exec(Exec { container_id: id, exec_id: "e", process: &process }, &stdio)
            .await
            .expect("exec");
        self.guest.start(id, "e").await.expect_err("runc goes wrong");
        assert_eq!(code(self.guest.wait(id, "e").await), Code::FAILED_PRECONDITION);
        self.guest.kill(id, INIT, 9).await.expect("kill");
        self.guest.wait(id, INIT).await.expect("wait");
        self.guest.delete(id, INIT).await.expect("delete");
    }
}

#[tokio::test]
async fn hundreds_of_lives_half_of_which_go_wrong_leave_the_daemon_as_it_was() {
    let lives = Lives::begin().await;
    let (warm_up, rest) = ROUNDS;
    for round in 0..warm_up {
        lives.round(round).await;
    }
    let before = Level::of(&lives.daemon);
    for round in warm_up..warm_up + rest {
        lives.round(round).await;
    }
    before.is_back(&lives.daemon).await;
    println!("{} lives: {before:?} became {:?}", 2 * rest * FAULTS.len(), Level::of(&lives.daemon));
    lives.daemon.stop().await;
}

/// Calls that are abandoned half-way are finished, once, and keep nothing: containerd/containerd#11483.
#[tokio::test]
async fn callers_that_give_up_leave_nothing_of_their_calls() {
    let lives = Lives::begin().await;
    let (daemon, guest) = (&lives.daemon, &lives.guest);
    let before = daemon.open_descriptors();
    running(guest, "c", &["forever"]).await;
    for n in 0..20 {
        let (name, gate) = (format!("e{n}"), format!("gate-{n}"));
        exec(guest, "c", &name, &["forever"]).await.expect("exec");
        daemon.script(&json!({"exec": {"c": {"hold": gate}}}));
        let hasty = daemon.guest().await;
        let start = StartRequest { id: "c".into(), exec_id: name.clone(), ..Default::default() };
        hasty.client.task().start(context(HASTY, "default"), &start).await.expect_err("it is held");
        drop(hasty);
        daemon.release(&gate);
        lives.events.until("c", &format!("exec-started {name}")).await;
        guest.kill("c", &name, 9).await.expect("it was started all the same");
        assert_eq!(guest.wait("c", &name).await.expect("wait").status, 137);
        guest.delete("c", &name).await.expect("delete");
    }
    daemon.script(&json!({}));
    guest.kill("c", INIT, 9).await.expect("kill");
    guest.wait("c", INIT).await.expect("wait");
    guest.delete("c", INIT).await.expect("delete");
    daemon.assert_nothing_left(before).await;
    lives.daemon.stop().await;
}
