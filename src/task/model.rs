//! Random lives of a container, step by step, with no process behind them: thousands of orders in which starts, exits,
//! execs, freezes, OOM kills, deletes and subscribers overtake one another. It takes the steps that the calls take and
//! none of its own; what the events must look like is the business of `vminitd_test_support::order`.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, UNIX_EPOCH};

use vminit_shim::client::{Event as Told, Received};
use vminitd_test_support::chance::{self, Chance};
use vminitd_test_support::order;

use super::container::{Container, ExecPlan, Fixed, Outcome};
use super::gate::Input;
use super::ids::{ContainerId, ExecId, ProcessId};
use super::registry::{Bounds, Parts, Tasks};
use super::state::Op;
use super::{exec, oom, start, Bundles, ExecRequest, RuntimeOptions};
use crate::blocking::Disks;
use crate::events::{Exchange, Happening, StdioUris, Subscription};
use crate::io::{
    Owner, RelaySettings, RelayTasks, StdioSpec, StreamClose, StreamIds, StreamSettings, StreamTable,
};
use crate::reaper::{Exit, Pid, Process, Reaped, Reaper};
use crate::rootfs;
use crate::runc::spec::Policy;
use crate::runc::{Deadlines, Runtime, Settings};
use crate::sys::rlimit::Limit;

const RUNS: u64 = 5_000;
/// Execs of one container: enough for some to be starting, running and dying at the same time.
pub(super) const EXECS: u32 = 4;
const INIT_PID: u32 = 100;

/// Something that may happen now.
enum Next {
    StartInit,
    InitStarted,
    ReapInit,
    AddExec(u32),
    StartExec(u32),
    ExecStarted(u32, Box<ExecPlan>),
    ReapExec(u32),
    DeleteExec(u32),
    Settle(ProcessId, Input),
    ReadOom(ProcessId, Reaped),
    OomKill,
    Pause,
    Paused,
    Resume,
    Resumed,
    DeleteInit,
    Read,
    Reconnect,
}

/// One container, what may happen to it next, and what a subscriber has been told.
struct Life {
    chance: Chance,
    tasks: Tasks,
    container: Arc<Container>,
    exchange: Exchange,
    subscription: Subscription,
    next: Vec<Next>,
    /// Exits that must be told, by the name of the process.
    due: BTreeMap<String, u32>,
    oom_kills: u64,
    told: Vec<Told>,
}

#[test]
fn whatever_overtakes_whatever_the_events_are_in_order_and_complete() {
    let seed = chance::seed();
    let bundle = tempfile::tempdir().expect("a folder");
    let mut events = 0;
    for run in 0..RUNS {
        let mut life = Life::new(Chance::new(seed, run), bundle.path());
        life.live();
        events += life.told.len();
        life.verify()
            .unwrap_or_else(|error| panic!("VMINITD_SEED={seed}, run {run}: {error}: {:#?}", life.told));
    }
    println!("VMINITD_SEED={seed}: {RUNS} runs, {events} events");
}

impl Life {
    fn new(chance: Chance, bundle: &std::path::Path) -> Life {
        let exchange = Exchange::new(4096);
        let tasks = Tasks::new(parts(exchange.clone()));
        let id = ContainerId::parse("c").expect("an id");
        let reservation = tasks.reserve(&id).expect("the first");
        let fixed = Fixed {
            id,
            namespace: "default".into(),
            bundle: bundle.to_owned(),
            rootfs: rootfs::assemble(&[], bundle).expect("nothing to mount"),
            runc: tasks.parts().runtime.container("c", RuntimeOptions::default()),
            cgroup: None,
            owner: Owner::default(),
            private_pid_namespace: true,
        };
        let init = Process::without_pidfd(pid(INIT_PID));
        let stdio = no_plan(&tasks);
        let container = Container::new(fixed, exchange.clone(), init, StdioUris::default(), stdio);
        let container = Arc::new(container);
        let (stdio, rootfs) = (StdioUris::default(), Vec::new());
        container.publish(Happening::Created { bundle: bundle.to_owned(), rootfs, stdio, pid: INIT_PID });
        reservation.fill(container.clone());
        let mut next = vec![Next::StartInit, Next::ReapInit, Next::Pause, Next::OomKill, Next::OomKill];
        next.extend([Next::DeleteInit, Next::Read, Next::Reconnect, Next::Reconnect]);
        next.extend((0..EXECS).map(Next::AddExec));
        let subscription = exchange.subscribe();
        let (due, told) = (BTreeMap::new(), Vec::new());
        Life { chance, tasks, container, exchange, subscription, next, due, oom_kills: 0, told }
    }

    /// Lets happen whatever can, in any order, until nothing can.
    fn live(&mut self) {
        while !self.next.is_empty() {
            let at = self.chance.below(self.next.len() as u64) as usize;
            let next = self.next.swap_remove(at);
            let then = self.happen(next);
            self.next.extend(then);
        }
        self.container.forget_execs();
        let at = Some(UNIX_EPOCH);
        self.container.publish(Happening::Deleted { pid: INIT_PID, status: 0, at });
        self.read();
    }

    fn happen(&mut self, next: Next) -> Vec<Next> {
        let init = ProcessId::Init;
        match next {
            Next::StartInit => self.start_init(),
            Next::InitStarted => self.init_started(),
            // Most lives are longer than their first few steps.
            Next::ReapInit if !self.chance.once_in(6) && !self.next.is_empty() => vec![Next::ReapInit],
            Next::ReapInit => self.reap(init, INIT_PID),
            Next::AddExec(n) => self.add_exec(n),
            Next::StartExec(n) => self.start_exec(n),
            Next::ExecStarted(n, plan) => self.exec_started(n, *plan),
            Next::ReapExec(n) => self.reap(exec_id(n), INIT_PID + 1 + n),
            Next::DeleteExec(n) => self.delete_exec(n),
            Next::Settle(who, input) => {
                self.container.feed(&mut self.container.processes(), &who, input);
                vec![]
            }
            Next::ReadOom(who, reaped) => {
                if who == init {
                    self.container.note_oom_kills(&mut self.container.processes(), self.oom_kills);
                }
                oom::read_last(&self.container, &who, reaped);
                vec![]
            }
            Next::OomKill => self.oom_kill(),
            Next::Pause => self.freeze("pause", Op::Pause, Next::Paused),
            Next::Paused => self.frozen(Op::PauseDone, Op::PauseFailed, Happening::Paused, Next::Resume),
            Next::Resume => self.freeze("resume", Op::Resume, Next::Resumed),
            Next::Resumed => self.frozen(Op::ResumeDone, Op::ResumeFailed, Happening::Resumed, Next::Pause),
            Next::DeleteInit => {
                // As a Delete does that comes at any time: refused while it runs.
                let _ = self.container.step(&init, "delete", Op::Delete);
                vec![]
            }
            Next::Read => self.read(),
            Next::Reconnect => {
                self.subscription = self.exchange.subscribe();
                vec![Next::Read]
            }
        }
    }

    fn start_init(&mut self) -> Vec<Next> {
        start::begin(&self.container).map_or(vec![], |()| vec![Next::InitStarted])
    }

    fn init_started(&mut self) -> Vec<Next> {
        let failed = self.chance.once_in(8);
        start::ended(&self.container, !failed);
        if failed {
            vec![Next::StartInit]
        } else {
            vec![]
        }
    }

    fn reap(&mut self, who: ProcessId, pid: u32) -> Vec<Next> {
        let reaped = Reaped { exit: Exit::Code(0), at: UNIX_EPOCH };
        let name = if who == ProcessId::Init { "c".to_owned() } else { who.to_string() };
        self.due.insert(name, pid);
        drop(self.container.reaped(&who, reaped));
        let mut then = vec![Next::ReadOom(who.clone(), reaped), Next::Settle(who.clone(), Input::OutputDone)];
        if who == ProcessId::Init {
            then.push(Next::Settle(who, Input::KillAllDone));
        }
        then
    }

    fn add_exec(&mut self, n: u32) -> Vec<Next> {
        let ProcessId::Exec(exec) = exec_id(n) else { return vec![] };
        let stdio = null();
        let container = self.container.id.clone();
        let request = ExecRequest { container, exec, process: vec![], stdio, uris: StdioUris::default() };
        match at_once(self.tasks.exec(request)) {
            Ok(()) => vec![Next::StartExec(n), Next::DeleteExec(n)],
            Err(_) => vec![],
        }
    }

    fn start_exec(&mut self, n: u32) -> Vec<Next> {
        let ProcessId::Exec(exec) = exec_id(n) else { return vec![] };
        exec::begin(&self.container, &exec).map_or(vec![], |plan| vec![Next::ExecStarted(n, Box::new(plan))])
    }

    fn exec_started(&mut self, n: u32, plan: ExecPlan) -> Vec<Next> {
        let ProcessId::Exec(exec) = exec_id(n) else { return vec![] };
        if self.chance.once_in(4) {
            exec::failed(&self.container, &exec);
            return vec![];
        }
        let relays = plan.stdio.pending.start(&self.tasks.parts().relays);
        let process = Process::without_pidfd(pid(INIT_PID + 1 + n));
        exec::started(&self.container, &exec, process, relays);
        vec![Next::ReapExec(n)]
    }

    /// As a Delete does: it removes one whose exit was told, or that never ran.
    fn delete_exec(&mut self, n: u32) -> Vec<Next> {
        let who = exec_id(n);
        let Ok(before) = self.container.step(&who, "delete", Op::Delete) else { return vec![] };
        let told = |outcome: Outcome| matches!(outcome, Outcome::Exited(_));
        let ready = self.container.with(&who, |entry| told(*entry.outcome.borrow())).unwrap_or(false);
        if before.reaped().is_some() && !ready {
            let _ = self.container.step(&who, "delete", Op::DeleteFailed);
            return vec![Next::DeleteExec(n)];
        }
        if let ProcessId::Exec(exec) = who {
            self.container.forget_exec(&exec);
        }
        vec![]
    }

    fn oom_kill(&mut self) -> Vec<Next> {
        // Only what has processes can be out of memory, and the watch ends with the last of them.
        if self.container.processes().init.state.reaped().is_none() {
            self.oom_kills += 1 + self.chance.below(3);
            if self.chance.once_in(2) {
                self.container.note_oom_kills(&mut self.container.processes(), self.oom_kills);
            }
        }
        vec![]
    }

    fn freeze(&mut self, verb: &'static str, op: Op, then: Next) -> Vec<Next> {
        self.container.step(&ProcessId::Init, verb, op).map_or(vec![], |_| vec![then])
    }

    fn frozen(&mut self, done: Op, failed: Op, event: Happening, then: Next) -> Vec<Next> {
        let (op, event) = if self.chance.once_in(4) { (failed, None) } else { (done, Some(event)) };
        match self.container.conclude("freeze", op, event) {
            Ok(()) if !self.chance.once_in(3) => vec![then],
            _ => vec![],
        }
    }

    /// What a connection does: it takes an event, writes it, says so.
    fn read(&mut self) -> Vec<Next> {
        loop {
            let next = pin!(self.subscription.next()).poll(&mut Context::from_waker(Waker::noop()));
            let Poll::Ready(Ok(Some(delivery))) = next else { return vec![] };
            self.told.push(Received::decode(delivery.envelope()).expect("it decodes").event);
            self.subscription.written(&delivery);
        }
    }

    fn verify(&self) -> Result<(), String> {
        order::check(&self.told)?;
        let mut exits = BTreeMap::new();
        for event in &self.told {
            if let Told::Exit { id, pid, .. } = event {
                exits.insert(id.clone(), *pid);
            }
        }
        (exits == self.due).then_some(()).ok_or_else(|| format!("reaped {:?}, told {exits:?}", self.due))
    }
}

fn exec_id(n: u32) -> ProcessId {
    ProcessId::Exec(ExecId::parse(&format!("e{n}")).expect("an id"))
}

fn pid(number: u32) -> Pid {
    Pid::new(number as i32).expect("a pid")
}

fn null() -> StdioSpec {
    StdioSpec::parse("", "", "", StreamIds::Numeric).expect("nothing is null")
}

/// What comes of a future that has nothing to wait for.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("it waits for something"),
    }
}

/// The relays of a process without any.
fn no_plan(tasks: &Tasks) -> (crate::io::Relays, crate::io::Served) {
    let ends = at_once(null().open(&tasks.parts().disks)).expect("/dev/null");
    let streams = tasks.parts().streams.claim(&[]).expect("none is named");
    let relays = &tasks.parts().relays;
    let stdio = crate::io::Stdio::open(ends, streams, Owner::default(), relays).expect("/dev/null");
    (stdio.pending.start(relays), stdio.served)
}

/// The parts of a daemon that starts nothing and waits for nothing.
pub(super) fn parts(exchange: Exchange) -> Parts {
    let never = Duration::ZERO;
    let settings = Settings {
        binary: std::sync::LazyLock::new(Box::new(|| "/nowhere".into())),
        root: "/nowhere".into(),
        scratch: "/nowhere".into(),
        no_pivot: false,
        file_limit: Limit { soft: 0, hard: 0 },
        deadlines: Deadlines { create: never, change: never, query: never, checkpoint: never },
    };
    let disks = Disks::new();
    Parts {
        runtime: Runtime::new(Reaper::without_thread(), settings),
        exchange,
        streams: StreamTable::new(StreamSettings {
            ids: StreamIds::Numeric,
            handshake: never,
            unclaimed: never,
        }),
        relays: RelayTasks::new(RelaySettings { close: StreamClose::Delete, stdin_idle: never }),
        bundles: Bundles::in_folder("/nowhere".into(), disks.clone()),
        disks,
        bounds: Bounds {
            io_drain: never,
            delete_drain: never,
            delete_margin: never,
            device_wait: never,
            processes: 1 + EXECS as usize,
        },
        spec: Policy::AsIs,
        publish_delete: true,
    }
}
