//! Brings a container into the state of a row, makes the row's call, and looks at everything that came of it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{json, Value};
use tokio::task::JoinHandle;
use vminit_shim::api::containerd::api::Status;
use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::{Container, Exec, Guest, Stdio, INIT};
use vminit_shim::spec;
use vminitd_test_support::calls::{exec, pause, state};
use vminitd_test_support::{binaries, rootfs, Daemon, EventLog};

use crate::call::{Answer, Method};
use crate::row::{After, Init, Row, Who};

/// The exec that a row is about.
pub const EXEC: &str = "e";
/// What processes do that are to live until they are killed.
const FOREVER: [&str; 2] = ["/bin/sleep", "1000"];
/// What an exec does that is to end by itself, and its status.
const ENDING: [&str; 3] = ["/bin/sh", "-c", "exit 3"];
/// What no runc can start.
const MISSING: [&str; 1] = ["/no/such/program"];

/// A daemon with the containers of many rows, one after the other.
pub struct Rig {
    pub daemon: Daemon,
    pub guest: Guest,
    pub events: EventLog,
    /// A container that is always there; the exec ids added to it mark places in the stream of events.
    marker: String,
    /// The root file system of containers of the real runc.
    root: Option<PathBuf>,
    marks: AtomicUsize,
    /// What the daemon had open before there was a container.
    descriptors: usize,
}

/// What is undone after a row: a Pause that hangs.
struct Held {
    gate: String,
    pause: JoinHandle<()>,
}

impl Rig {
    pub async fn on_fake_runc() -> Rig {
        Rig::on(Daemon::with_fake_runc().await, None, "c").await
    }

    /// `None` where the real runc cannot be used. Cgroups are named after containers, so tests at the same time keep
    /// theirs apart by a `name` in each id.
    pub async fn on_real_runc(name: &str) -> Option<Rig> {
        let daemon = Daemon::with_runtime(&binaries::real_runc()?).await;
        let root = rootfs::busybox(daemon.dir());
        Some(Rig::on(daemon, Some(root), name).await)
    }

    async fn on(daemon: Daemon, root: Option<PathBuf>, name: &str) -> Rig {
        let (guest, events) = daemon.guest_and_events().await;
        let marker = format!("{name}-marker");
        let descriptors = daemon.open_descriptors();
        let rig = Rig { daemon, guest, events, marker, root, marks: AtomicUsize::new(0), descriptors };
        rig.create(&rig.marker).await;
        rig
    }

    /// Checks one row, in a container named after `id`.
    pub async fn check(&self, id: &str, row: &Row) {
        let held = self.set_up(id, row.init, row.who).await;
        let (told, called) = (self.told(id).await.len(), self.daemon.verbs(id).len());
        let exec_id = if row.who == Who::Init { INIT } else { EXEC };

        let answer = row.method.call(self, id, exec_id).await;
        assert_eq!(answer, row.answer, "{row:?}: the answer");
        if let Some(last) = row.events.last() {
            self.events.until(id, last).await;
        }
        assert_eq!(self.told(id).await[told..], *row.events, "{row:?}: the events");
        let after = state(&self.guest, id, exec_id).await.map(|state| state.status.enum_value_or_default());
        assert_eq!(after, state_after(row), "{row:?}: State afterwards");
        if self.root.is_none() {
            let mut verbs = self.daemon.verbs(id).split_off(called);
            // What is killed is thawed on cgroup v1 alone, and only if it is not dead by then.
            verbs.retain(|verb| verb != "resume" || row.method == Method::Resume);
            assert_eq!(verbs, row.runc, "{row:?}: the calls of runc");
        }
        if let Some(Held { gate, pause }) = held {
            self.daemon.release(&gate);
            pause.await.expect("join");
        }
        self.bury(id).await;
    }

    /// Ends what a row has left, whatever that is.
    async fn bury(&self, id: &str) {
        // Where no pid namespace takes an exec along, the end of its container would wait for it.
        let _ = self.guest.kill(id, EXEC, 9).await;
        let _ = self.guest.kill(id, INIT, 9).await;
        let _ = self.guest.wait(id, INIT).await;
        let _ = self.guest.delete(id, INIT).await;
        if self.daemon.bundle(id).exists() {
            self.daemon.remove_bundle(id);
        }
    }

    /// Stops the daemon, in which nothing may be left of all rows.
    pub async fn end(self) {
        self.bury(&self.marker).await;
        self.daemon.assert_nothing_left(self.descriptors).await;
        self.daemon.stop().await;
    }

    /// What was told of a container so far: nothing of it is on its way any more.
    pub async fn told(&self, id: &str) -> Vec<String> {
        let mark = format!("m{}", self.marks.fetch_add(1, Ordering::Relaxed));
        exec(&self.guest, &self.marker, &mark, &FOREVER).await.expect("add the exec that marks a place");
        self.events.until(&self.marker, &format!("exec-added {mark}")).await;
        self.events.of(id)
    }

    async fn set_up(&self, id: &str, init: Init, who: Who) -> Option<Held> {
        if init == Init::Missing {
            return None;
        }
        self.create(id).await;
        if init != Init::Created {
            self.guest.start(id, INIT).await.expect("start");
        }
        self.set_up_exec(id, who).await;
        match init {
            Init::Missing | Init::Created | Init::Running => {}
            Init::Pausing => return Some(self.hang_in_pause(id).await),
            Init::Paused => assert_eq!(Method::Pause.call(self, id, INIT).await, Answer::Done),
            Init::Stopped => self.kill(id).await,
            Init::Deleted => {
                self.kill(id).await;
                self.guest.delete(id, INIT).await.expect("delete");
            }
        }
        None
    }

    async fn set_up_exec(&self, id: &str, who: Who) {
        let program: &[&str] = match who {
            Who::Init | Who::Unknown => return,
            Who::Failed => &MISSING,
            Who::Exited => &ENDING,
            Who::Added | Who::Running | Who::Deleted => &FOREVER,
        };
        let process = spec::process(program);
        let exec = Exec { container_id: id, exec_id: EXEC, process: &process };
        self.guest.exec(exec, &Stdio::default()).await.expect("exec");
        match who {
            Who::Init | Who::Unknown | Who::Added => {}
            Who::Deleted => drop(self.guest.delete(id, EXEC).await.expect("delete")),
            Who::Running => drop(self.guest.start(id, EXEC).await.expect("start")),
            Who::Failed => {
                self.daemon.script(&json!({"exec": {id: {"fail": "no such program"}}}));
                self.guest.start(id, EXEC).await.expect_err("there is no such program");
                self.daemon.script(&json!({}));
            }
            Who::Exited => {
                self.guest.start(id, EXEC).await.expect("start");
                self.guest.wait(id, EXEC).await.expect("wait");
            }
        }
    }

    async fn create(&self, id: &str) {
        let config = self.config(id);
        let container = Container { id, config: &config, rootfs: &[] };
        self.guest.create(container, &Stdio::default()).await.expect("create");
    }

    /// A container that runs.
    pub async fn running(&self, id: &str) {
        self.create(id).await;
        self.guest.start(id, INIT).await.expect("start");
    }

    /// The `config.json` of a row's container.
    pub fn config(&self, id: &str) -> Value {
        match &self.root {
            Some(root) => rootfs::config(root, id, &FOREVER),
            None => spec::container(&FOREVER),
        }
    }

    async fn kill(&self, id: &str) {
        self.guest.kill(id, INIT, 9).await.expect("kill");
        self.guest.wait(id, INIT).await.expect("wait");
    }

    async fn hang_in_pause(&self, id: &str) -> Held {
        let gate = format!("gate-{id}");
        self.daemon.script(&json!({"pause": {id: {"hold": gate}}}));
        let (other, name) = (self.daemon.guest().await, id.to_owned());
        // Whether it succeeds in the end is up to what the row does meanwhile.
        let pause = tokio::spawn(async move {
            let _ = pause(&other, &name).await;
        });
        self.daemon.called("pause", id).await;
        self.daemon.script(&json!({}));
        Held { gate, pause }
    }
}

fn state_after(row: &Row) -> Result<Status, Code> {
    match row.after {
        After::Is(status) => Ok(status),
        After::Gone => Err(Code::NOT_FOUND),
    }
}
