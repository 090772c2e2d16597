//! One container: its processes, and the steps of their lives.
//!
//! The lock of a container covers one step: a change of state, the event that tells of it, and the release of those
//! who wait for it. Nobody awaits anything under it. Exits are published here and nowhere else.

use crate::lock::Lock;
use crate::sys::pty::WindowSize;
use crate::sys::signal::Signal;
use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, MutexGuard};
use std::time::SystemTime;

use tokio::sync::watch;

use super::error::TaskError;
use super::gate::{Gate, Input};
use super::ids::{ContainerId, ExecId, ProcessId};
use super::registry::Place;
use super::state::{Op, State, Status};
use crate::cgroup::Cgroup;
use crate::events::{Event, Exchange, Happening, StdioUris};
use crate::io::{OutputDone, Owner, Relays, Served, StdinCloser, Stdio};
use crate::reaper::{Process, Reaped};
use crate::rootfs::Assembled;
use crate::runc;

/// What a Wait gets to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its exit has not been told yet.
    Pending,
    Exited(Reaped),
    /// It never ran and never will: its start failed. (One that is deleted takes the sender with it.)
    NeverRan,
}

/// One process of a container.
pub struct Entry {
    pub state: State,
    pub gate: Gate,
    /// `None` as long as there is none (execs that were not started).
    pub process: Option<Arc<Process>>,
    pub uris: StdioUris,
    /// Ends its stdin, whether its relays run or not.
    pub stdin: StdinCloser,
    pub relays: Option<Relays>,
    /// Its stdio that is reached by calls.
    pub served: Served,
    /// What was asked for last; the process may have no terminal yet, or none at all.
    pub window_size: Option<WindowSize>,
    pub outcome: watch::Sender<Outcome>,
    /// What an exec needs to be started, for as long as it can be.
    pub plan: Option<ExecPlan>,
    /// That of an exec; an init's goes with its id.
    pub _place: Option<Place>,
}

/// What an Exec left for the Start that follows it.
pub struct ExecPlan {
    /// JSON of the OCI process.
    pub process: Box<[u8]>,
    pub stdio: Stdio,
    /// What its terminal is to begin with.
    pub window_size: Option<WindowSize>,
}

impl Entry {
    pub fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, |process| process.pid.as_u32())
    }

    /// Ends its stdin behind what was written to it, whichever way that goes.
    pub fn close_stdin(&self) {
        self.stdin.close();
        if let Some(served) = &self.served.stdin {
            served.close();
        }
    }
}

/// The processes of a container.
pub struct Processes {
    pub init: Entry,
    pub execs: BTreeMap<ExecId, Entry>,
    /// How many OOM kills have been told of.
    pub oom_kills: u64,
    /// The init was sent SIGKILL: nothing of the container is to be frozen any more.
    pub killed: bool,
}

/// What State answers.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub pid: u32,
    pub status: Status,
    pub uris: StdioUris,
    pub reaped: Option<Reaped>,
}

/// What is fixed when a container is created.
pub struct Fixed {
    pub id: ContainerId,
    pub namespace: String,
    pub bundle: PathBuf,
    pub rootfs: Assembled,
    pub runc: runc::Container,
    /// `None` on a machine with cgroup v1.
    pub cgroup: Option<Cgroup>,
    /// Whose the pipes of its processes are.
    pub owner: Owner,
    /// The kernel kills all of it when its init dies.
    pub private_pid_namespace: bool,
}

/// A container that runc knows.
pub struct Container {
    fixed: Fixed,
    exchange: Exchange,
    processes: Lock<Processes>,
}

impl std::ops::Deref for Container {
    type Target = Fixed;

    fn deref(&self) -> &Fixed {
        &self.fixed
    }
}

impl Container {
    /// A container whose init has just been created.
    pub fn new(
        fixed: Fixed,
        exchange: Exchange,
        process: Process,
        uris: StdioUris,
        (relays, served): (Relays, Served),
    ) -> Container {
        let init = Entry {
            state: State::Created,
            gate: Gate::init(),
            process: Some(Arc::new(process)),
            uris,
            stdin: relays.stdin_closer(),
            relays: Some(relays),
            served,
            window_size: None,
            outcome: watch::Sender::new(Outcome::Pending),
            plan: None,
            _place: None,
        };
        let processes = Lock::new(Processes { init, execs: BTreeMap::new(), oom_kills: 0, killed: false });
        Container { fixed, exchange, processes }
    }

    /// The lock: for one step, never over an await.
    pub fn processes(&self) -> MutexGuard<'_, Processes> {
        self.processes.lock()
    }

    /// Does something with one process, under the lock.
    pub fn with<T>(&self, who: &ProcessId, look: impl FnOnce(&mut Entry) -> T) -> Result<T, TaskError> {
        self.find(&mut self.processes(), who).map(look)
    }

    pub fn find<'a>(
        &self,
        processes: &'a mut Processes,
        who: &ProcessId,
    ) -> Result<&'a mut Entry, TaskError> {
        match who {
            ProcessId::Init => Ok(&mut processes.init),
            ProcessId::Exec(exec) => {
                let missing = || TaskError::NoExec { container: self.id.clone(), exec: exec.clone() };
                processes.execs.get_mut(exec).ok_or_else(missing)
            }
        }
    }

    /// Takes one step of a process's life, if its state allows it.
    pub fn step(&self, who: &ProcessId, verb: &'static str, op: Op) -> Result<State, TaskError> {
        self.with(who, |entry| self.advance(entry, who, verb, op))?
    }

    /// Ends what was under way with the container as a whole, and tells of it. Refused when its init has ended
    /// meanwhile.
    pub fn conclude(&self, verb: &'static str, op: Op, event: Option<Happening>) -> Result<(), TaskError> {
        let mut processes = self.processes();
        self.advance(&mut processes.init, &ProcessId::Init, verb, op)?;
        if let Some(event) = event {
            tracing::info!(container = %self.id, verb, "done");
            self.publish(event);
        }
        Ok(())
    }

    /// Refuses `verb` unless the state of the init allows it. Returns that state.
    pub fn require(&self, allows: fn(State) -> bool, verb: &'static str) -> Result<State, TaskError> {
        let state = self.processes().init.state;
        let wrong = || TaskError::WrongState { op: verb, process: ProcessId::Init, state: state.name() };
        allows(state).then_some(state).ok_or_else(wrong)
    }

    /// Takes note of how many OOM kills there were by now: one event for as many as are new.
    pub fn note_oom_kills(&self, processes: &mut Processes, kills: u64) {
        if kills > processes.oom_kills {
            processes.oom_kills = kills;
            tracing::warn!(container = %self.id, kills, "out of memory");
            self.publish(Happening::Oom);
        }
    }

    pub fn advance(
        &self,
        entry: &mut Entry,
        who: &ProcessId,
        verb: &'static str,
        op: Op,
    ) -> Result<State, TaskError> {
        let refused = |_| TaskError::WrongState { op: verb, process: who.clone(), state: entry.state.name() };
        let next = entry.state.after(op).map_err(refused)?;
        Ok(std::mem::replace(&mut entry.state, next))
    }

    /// Gives an input to the exit gate of a process; publishes its exit when that opens the gate. An exec that has
    /// been deleted meanwhile needs no more input.
    pub fn feed(&self, processes: &mut Processes, who: &ProcessId, input: Input) {
        let Ok(entry) = self.find(processes, who) else { return };
        if !entry.gate.feed(input) {
            return;
        }
        let reaped = entry.state.reaped().expect("a gate opens after the reaping only");
        let id = match who {
            ProcessId::Init => self.id.as_str(),
            ProcessId::Exec(exec) => exec.as_str(),
        };
        let (id, pid, status, at) = (id.to_owned(), entry.pid(), reaped.exit.status(), reaped.at);
        tracing::info!(container = %self.id, process = %who, pid, status, "exited");
        self.publish(Happening::Exited { id, pid, status, at });
        entry.outcome.send_replace(Outcome::Exited(reaped));
        if matches!(who, ProcessId::Exec(_)) {
            self.feed(processes, &ProcessId::Init, Input::ExecEnded);
        }
    }

    /// Ends a start, whatever came of it: `event` tells of one that succeeded, and the gate no longer waits for it.
    pub fn end_start(&self, processes: &mut Processes, who: &ProcessId, op: Op, event: Option<Happening>) {
        let Ok(entry) = self.find(processes, who) else { return };
        if let Err(error) = self.advance(entry, who, "end the start of", op) {
            tracing::error!(container = %self.id, %error, "the end of a start that cannot be");
        }
        if let Some(event) = event {
            tracing::info!(container = %self.id, process = %who, pid = entry.pid(), "started");
            self.publish(event);
        }
        self.feed(processes, who, Input::CallEnded);
    }

    /// Whether what is left of this container must be killed: its init has ended, and the kernel did not see to it.
    pub fn must_die(&self, processes: &Processes) -> bool {
        !self.private_pid_namespace && processes.init.state.reaped().is_some()
    }

    /// Takes note that a process was reaped. Returns what tells when its output is complete.
    pub fn reaped(&self, who: &ProcessId, reaped: Reaped) -> Option<OutputDone> {
        let mut processes = self.processes();
        let entry = self.find(&mut processes, who).ok()?;
        if let Err(error) = self.advance(entry, who, "reap", Op::Exited(reaped)) {
            tracing::error!(container = %self.id, %error, "an exit that cannot be");
            return None;
        }
        let output = entry.relays.as_mut().map(Relays::exited);
        self.feed(&mut processes, who, Input::Reaped);
        let never_started = match who {
            ProcessId::Init => take_plans(&mut processes),
            ProcessId::Exec(_) => Vec::new(),
        };
        drop(processes);
        // Closes their streams.
        drop(never_started);
        output
    }

    /// The relays of all of its processes.
    pub fn take_relays(&self) -> Vec<Relays> {
        let mut processes = self.processes();
        let Processes { init, execs, .. } = &mut *processes;
        execs.values_mut().chain([init]).filter_map(|entry| entry.relays.take()).collect()
    }

    /// Drops an exec that was deleted. Whoever waits for one that never ran learns it from its sender's end.
    pub fn forget_exec(&self, exec: &ExecId) {
        self.processes().execs.remove(exec);
    }

    /// Drops what is left of the execs: their container is gone. Whoever waits for one that never ran learns it.
    pub fn forget_execs(&self) {
        self.processes().execs.clear();
    }

    pub fn publish(&self, what: Happening) {
        let (namespace, container) = (self.namespace.clone(), self.id.to_string());
        self.exchange.publish(Event { at: SystemTime::now(), namespace, container, what });
    }

    pub fn snapshot(&self, who: &ProcessId) -> Result<Snapshot, TaskError> {
        let mut processes = self.processes();
        let init = processes.init.state;
        let entry = self.find(&mut processes, who)?;
        // What runs in a frozen container is frozen.
        let state = if entry.state == State::Running && init.is_frozen() { init } else { entry.state };
        Ok(Snapshot {
            pid: entry.pid(),
            status: state.status(),
            uris: entry.uris.clone(),
            reaped: entry.state.reaped(),
        })
    }

    /// Waits until the exit of a process has been published; the same answer as often as it is asked. The future
    /// does not hold the container.
    pub fn wait(&self, who: &ProcessId) -> impl Future<Output = Result<Reaped, TaskError>> + use<> {
        let (outcome, who) = (self.with(who, |entry| entry.outcome.subscribe()), who.clone());
        async move { told(outcome?, who).await }
    }

    /// Sends a signal to one process.
    pub fn signal(&self, who: &ProcessId, signal: Signal) -> Result<(), TaskError> {
        let process = self.with(who, |entry| match (entry.state.reaped(), &entry.process) {
            (Some(_), _) => Err(TaskError::Finished(who.clone())),
            (None, None) => Err(TaskError::NotStarted(who.clone())),
            (None, Some(process)) => Ok(process.clone()),
        })??;
        match process.signal(signal) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Err(TaskError::Finished(who.clone())),
            Err(source) => Err(TaskError::Signal { signal, process: who.clone(), source }),
            Ok(()) => Ok(()),
        }
    }
}

/// What the execs that were not started have kept for that: without an init none ever will be.
fn take_plans(processes: &mut Processes) -> Vec<ExecPlan> {
    processes.execs.values_mut().filter_map(|exec| exec.plan.take()).collect()
}

async fn told(mut outcome: watch::Receiver<Outcome>, who: ProcessId) -> Result<Reaped, TaskError> {
    match outcome.wait_for(|outcome| *outcome != Outcome::Pending).await.map(|outcome| *outcome) {
        Ok(Outcome::Exited(reaped)) => Ok(reaped),
        // The sender goes with an exec that was deleted.
        _ => Err(TaskError::NotStarted(who)),
    }
}
