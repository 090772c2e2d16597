//! One run: two containers, a script for runc, and steps of which none waits for the other. It ends with everything
//! killed and deleted.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{json, Map, Value};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::{ClientError, Event, Guest, INIT};
use vminit_shim::spec;
use vminitd_test_support::calls::{create_in, exec, kill_all, pause, resume, state};
use vminitd_test_support::chance::Chance;
use vminitd_test_support::{Audience, Daemon, LIMIT};

/// Steps of one run.
const STEPS: u64 = 48;
/// Every other call is waited for, but no longer than this: one that is held up is not.
const PATIENCE: Duration = Duration::from_millis(100);
/// Verbs of runc that the script may hold up or let fail.
const VERBS: [&str; 7] = ["create", "start", "exec", "pause", "resume", "kill", "delete"];
const EXECS: [&str; 2] = ["e0", "e1"];

/// What is asked of the daemon.
#[derive(Debug, Clone, Copy)]
enum Op {
    Create,
    Start,
    AddExec,
    StartExec,
    Kill,
    KillExec,
    KillAll,
    Pause,
    Resume,
    Delete,
    DeleteExec,
    Wait,
    WaitExec,
    State,
}

/// What else happens.
#[derive(Debug, Clone, Copy)]
enum Step {
    Ask(Op),
    /// Lets go on what one verb of runc holds up.
    Release,
    Come,
    Leave,
}

/// How often each step is taken, compared with the others.
const WEIGHTS: [(Step, u64); 17] = [
    (Step::Ask(Op::Create), 2),
    (Step::Ask(Op::Start), 5),
    (Step::Ask(Op::AddExec), 6),
    (Step::Ask(Op::StartExec), 8),
    (Step::Ask(Op::Kill), 1),
    (Step::Ask(Op::KillExec), 3),
    (Step::Ask(Op::KillAll), 1),
    (Step::Ask(Op::Pause), 3),
    (Step::Ask(Op::Resume), 5),
    (Step::Ask(Op::Delete), 1),
    (Step::Ask(Op::DeleteExec), 2),
    (Step::Ask(Op::Wait), 1),
    (Step::Ask(Op::WaitExec), 1),
    (Step::Ask(Op::State), 1),
    (Step::Release, 7),
    (Step::Come, 2),
    (Step::Leave, 1),
];

/// How many calls succeeded that publish an event, or how many such events there were.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    created: usize,
    started: usize,
    execs_added: usize,
    execs_started: usize,
    paused: usize,
    resumed: usize,
    deleted: usize,
}

/// One run under way.
pub struct Life<'a> {
    daemon: &'a Daemon,
    audience: &'a mut Audience,
    chance: Chance,
    guest: Arc<Guest>,
    run: u64,
    containers: [String; 2],
    tally: Tally,
    asked: Vec<JoinHandle<Tally>>,
    waiters: Vec<JoinHandle<()>>,
}

impl<'a> Life<'a> {
    pub async fn new(daemon: &'a Daemon, audience: &'a mut Audience, chance: Chance, run: u64) -> Life<'a> {
        let guest = Arc::new(daemon.guest().await);
        let containers = ["a", "b"].map(|letter| format!("r{run}{letter}"));
        let (asked, waiters, tally) = (Vec::new(), Vec::new(), Tally::default());
        Life { daemon, audience, chance, guest, run, containers, tally, asked, waiters }
    }

    /// Takes the steps of this run.
    pub async fn live(&mut self) {
        let script = self.script();
        self.daemon.script(&script);
        for container in self.containers.clone() {
            self.ask(Op::Create, container, PATIENCE).await;
        }
        for step in 0..STEPS {
            match self.chance.weigh(&WEIGHTS) {
                // Most containers are to see something first.
                Step::Ask(Op::Kill | Op::KillAll | Op::Delete)
                    if step < STEPS / 2 && !self.chance.once_in(4) => {}
                Step::Ask(op) => {
                    let container = self.containers[self.chance.below(2) as usize].clone();
                    let patience = if self.chance.once_in(2) { Duration::ZERO } else { PATIENCE };
                    self.ask(op, container, patience).await;
                }
                Step::Release => {
                    let verb = self.chance.pick(&VERBS);
                    self.daemon.release(&self.gate(verb));
                }
                Step::Come => self.audience.come().await,
                Step::Leave => self.audience.leave().await,
            }
        }
    }

    /// Lets everything go on, then kills and deletes what is left; nobody may be left waiting.
    pub async fn end(mut self) -> Tally {
        self.daemon.script(&json!({}));
        for verb in VERBS {
            self.daemon.release(&self.gate(verb));
        }
        let mut tally = self.tally;
        for asked in std::mem::take(&mut self.asked) {
            tally.add(joined(asked, "an answer").await);
        }
        for container in &self.containers {
            tally.deleted += self.bury(container).await;
        }
        self.remove_bundles_of_failed_creates();
        for waiter in std::mem::take(&mut self.waiters) {
            joined(waiter, "the answer to a Wait").await;
        }
        tally
    }

    fn remove_bundles_of_failed_creates(&self) {
        for container in self.containers.iter().filter(|container| self.daemon.bundle(container).exists()) {
            self.daemon.remove_bundle(container);
        }
    }

    /// A quarter of the verbs are held up, before or after they did their job; some fail.
    fn script(&mut self) -> Value {
        let mut script = Map::new();
        for verb in VERBS {
            let behaviour = match self.chance.below(12) {
                0 | 1 => json!({"hold": self.gate(verb)}),
                2 => json!({"linger": self.gate(verb)}),
                3 if matches!(verb, "create" | "start" | "exec" | "pause") => json!({"fail": "by chance"}),
                _ => continue,
            };
            let id = self.chance.pick(&[self.containers[0].as_str(), "*"]).to_owned();
            script.insert(verb.into(), json!({ id: behaviour }));
        }
        script.into()
    }

    fn gate(&self, verb: &str) -> String {
        format!("gate-{}-{verb}", self.run)
    }

    /// Makes a call, and waits for its answer for so long at most.
    async fn ask(&mut self, op: Op, container: String, patience: Duration) {
        let exec_id = self.chance.pick(&EXECS);
        let guest = self.guest.clone();
        if let Op::Wait | Op::WaitExec = op {
            let who = if let Op::Wait = op { INIT } else { exec_id };
            // Any answer will do, so that there is one.
            self.waiters.push(tokio::spawn(async move {
                let _ = guest.wait(&container, who).await;
            }));
            return;
        }
        let bundle = self.daemon.bundle(&container).display().to_string();
        let call = Call { guest, bundle, container, exec_id, op, ..self.call() };
        let mut answer = tokio::spawn(call.make());
        match timeout(patience, &mut answer).await {
            Ok(answered) => self.tally.add(answered.expect("no call fails")),
            Err(_) => self.asked.push(answer),
        }
    }

    /// What chance says of the next call.
    fn call(&mut self) -> Call {
        let programs: [&'static [&'static str]; 5] =
            [&["forever"], &["forever"], &["forever"], &["exit", "3"], &["signal", "15"]];
        Call {
            guest: self.guest.clone(),
            bundle: String::new(),
            container: String::new(),
            exec_id: INIT,
            op: Op::State,
            program: self.chance.pick(&programs),
            signal: self.chance.pick(&[9, 15]),
            private_pid_namespace: self.chance.once_in(2),
        }
    }

    /// Ends a container that nothing else is asked of any more; how many it deleted.
    async fn bury(&self, container: &str) -> usize {
        if state(&self.guest, container, INIT).await.is_err() {
            return 0;
        }
        // Of those that do not run, each is refused.
        for exec_id in EXECS {
            let _ = self.guest.kill(container, exec_id, 9).await;
        }
        let _ = self.guest.kill(container, INIT, 9).await;
        let ended = timeout(LIMIT, self.guest.wait(container, INIT)).await;
        ended.unwrap_or_else(|_| panic!("{container} does not end")).expect("wait");
        self.guest.delete(container, INIT).await.unwrap_or_else(|error| panic!("{container}: {error}"));
        1
    }
}

/// One call, with everything in it.
struct Call {
    guest: Arc<Guest>,
    bundle: String,
    container: String,
    exec_id: &'static str,
    op: Op,
    program: &'static [&'static str],
    signal: u32,
    private_pid_namespace: bool,
}

impl Call {
    async fn make(self) -> Tally {
        let (guest, id, exec_id) = (&self.guest, self.container.as_str(), self.exec_id);
        let mut tally = Tally::default();
        match self.op {
            Op::Create => tally.created = self.create().await,
            Op::Start => tally.started = counted(guest.start(id, INIT).await),
            Op::AddExec => tally.execs_added = counted(exec(guest, id, exec_id, self.program).await),
            Op::StartExec => tally.execs_started = counted(guest.start(id, exec_id).await),
            Op::Kill => drop(counted(guest.kill(id, INIT, self.signal).await)),
            Op::KillExec => drop(counted(guest.kill(id, exec_id, self.signal).await)),
            Op::KillAll => drop(counted(kill_all(guest, id, self.signal).await)),
            Op::Pause => tally.paused = counted(pause(guest, id).await),
            Op::Resume => tally.resumed = counted(resume(guest, id).await),
            Op::Delete => tally.deleted = counted(guest.delete(id, INIT).await),
            Op::DeleteExec => drop(counted(guest.delete(id, exec_id).await)),
            Op::State => drop(state(guest, id, INIT).await),
            Op::Wait | Op::WaitExec => unreachable!("waiters are asked apart"),
        }
        tally
    }

    /// The bundle may be there from a Create that failed, and may go with a Delete that is under way.
    async fn create(&self) -> usize {
        let mut config = spec::container(self.program);
        if !self.private_pid_namespace {
            spec::share_pids(&mut config);
        }
        let _ = self.guest.bundle(&self.container, &config).await;
        usize::from(create_in(&self.guest, &self.container, &self.bundle).await.is_ok())
    }
}

/// 1 for a success. A refusal is fine, and runc may have the last word (UNKNOWN); a mistake of the daemon is not.
fn counted<T>(result: Result<T, ClientError>) -> usize {
    match result.map_err(|error| (error.code(), error)) {
        Ok(_) => 1,
        Err((None | Some(Code::INTERNAL), error)) => panic!("not an answer to expect: {error}"),
        Err(_) => 0,
    }
}

async fn joined<T>(task: JoinHandle<T>, what: &str) -> T {
    timeout(LIMIT, task).await.unwrap_or_else(|_| panic!("{what} does not come")).expect("no call fails")
}

impl Tally {
    pub fn add(&mut self, other: Tally) {
        self.created += other.created;
        self.started += other.started;
        self.execs_added += other.execs_added;
        self.execs_started += other.execs_started;
        self.paused += other.paused;
        self.resumed += other.resumed;
        self.deleted += other.deleted;
    }

    /// Counts events.
    pub fn of(events: &[Event]) -> Tally {
        let mut tally = Tally::default();
        for event in events {
            match event {
                Event::Create { .. } => tally.created += 1,
                Event::Start { .. } => tally.started += 1,
                Event::ExecAdded { .. } => tally.execs_added += 1,
                Event::ExecStarted { .. } => tally.execs_started += 1,
                Event::Paused { .. } => tally.paused += 1,
                Event::Resumed { .. } => tally.resumed += 1,
                Event::Delete { .. } => tally.deleted += 1,
                _ => {}
            }
        }
        tally
    }
}
