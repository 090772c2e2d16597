//! Execs: added by Exec, started by Start.

use std::sync::Arc;

use tokio::sync::watch;

use super::container::{Container, Entry, ExecPlan, Outcome, Processes};
use super::error::TaskError;
use super::gate::{Gate, Input};
use super::ids::{ContainerId, ExecId, ProcessId};
use super::registry::Tasks;
use super::state::{Op, State};
use crate::events::{Happening, StdioUris};
use crate::io::{Ends, Relays, Stdio, StdioSpec, StreamId};
use crate::reaper::{ExitOf, Process};
use crate::runc::spec;
use crate::sys::signal::Signal;

/// Execs of one container that there may be at once, started or not: far more than anybody runs in one, and few
/// enough that a host that forgets to delete them runs into this before the guest runs out of memory.
pub const EXECS_MAX: usize = 1_024;

/// Bytes of specs that the execs of one container may keep until they are started: two of the longest that fit a
/// request, or a thousand of the usual length, some KiB.
pub const SPECS_MAX: usize = 8 << 20;

/// What an Exec asks for.
pub struct ExecRequest {
    pub container: ContainerId,
    pub exec: ExecId,
    /// JSON of the OCI process.
    pub process: Vec<u8>,
    pub stdio: StdioSpec,
    pub uris: StdioUris,
}

impl Tasks {
    /// Adds an exec to a container whose init has not ended. Nothing runs yet; its streams are its own from now on.
    /// When it fails, the streams it names are closed.
    pub async fn exec(&self, request: ExecRequest) -> Result<(), TaskError> {
        let streams = request.stdio.streams();
        let added = self.open_and_add(request, &streams).await;
        if added.is_err() {
            self.parts().streams.discard(&streams);
        }
        added
    }

    async fn open_and_add(&self, request: ExecRequest, streams: &[StreamId]) -> Result<(), TaskError> {
        self.refuse_when_stopping()?;
        let container = self.get(&request.container)?;
        // First: what is refused leaves no file behind.
        refuse_exec(&container, &container.processes(), &request)?;
        let ends = request.stdio.open(&self.parts().disks).await?;
        self.add_exec(&container, request, streams, ends)
    }

    fn add_exec(
        &self,
        container: &Container,
        request: ExecRequest,
        streams: &[StreamId],
        ends: Ends,
    ) -> Result<(), TaskError> {
        // Opening may have taken its time.
        self.refuse_when_stopping()?;
        let mut processes = container.processes();
        refuse_exec(container, &processes, &request)?;
        let place = self.place()?;
        let streams = self.parts().streams.claim(streams).map_err(TaskError::NoStream)?;
        let stdio = Stdio::open(ends, streams, container.owner, &self.parts().relays)?;
        let entry = Entry {
            state: State::Created,
            gate: Gate::exec(),
            process: None,
            uris: request.uris,
            stdin: stdio.pending.stdin_closer(),
            relays: None,
            served: stdio.served.clone(),
            window_size: None,
            outcome: watch::Sender::new(Outcome::Pending),
            plan: Some(ExecPlan { process: request.process.into(), stdio, window_size: None }),
            _place: Some(place),
        };
        container.publish(Happening::ExecAdded { exec_id: request.exec.to_string() });
        processes.execs.insert(request.exec, entry);
        Ok(())
    }

    pub(super) async fn start_exec(
        &self,
        container: &Arc<Container>,
        exec: &ExecId,
    ) -> Result<u32, TaskError> {
        let plan = begin(container, exec)?;
        match self.run(container, plan).await {
            Ok((process, exit, relays)) => {
                let pid = started(container, exec, process, relays);
                self.follow(container, ProcessId::Exec(exec.clone()), exit);
                Ok(pid)
            }
            Err(error) => {
                failed(container, exec);
                Err(error)
            }
        }
    }

    async fn run(
        &self,
        container: &Container,
        plan: ExecPlan,
    ) -> Result<(Process, ExitOf, Relays), TaskError> {
        let process = spec::with_window_size(plan.process.into(), plan.window_size)?;
        let Stdio { ends, pending, .. } = plan.stdio;
        let mut relays = pending.start(&self.parts().relays);
        let created = container.runc.exec(&process, ends).await?;
        let (process, exit, console) = created.claim("exec")?;
        relays.attach(console, &self.parts().relays);
        Ok((process, exit, relays))
    }
}

/// Refuses an exec in a container whose init is in a state that takes none.
fn refuse_execs(container: &Container, init: State) -> Result<(), TaskError> {
    match init {
        _ if init.takes_execs() => Ok(()),
        _ if init.is_frozen() => {
            Err(TaskError::WrongState { op: "exec in", process: ProcessId::Init, state: init.name() })
        }
        _ => Err(TaskError::InitGone(container.id.clone())),
    }
}

/// Refuses an exec that cannot be added, whatever its stdio.
fn refuse_exec(container: &Container, processes: &Processes, request: &ExecRequest) -> Result<(), TaskError> {
    if processes.execs.contains_key(&request.exec) {
        return Err(TaskError::ExecExists(request.exec.clone()));
    }
    refuse_execs(container, processes.init.state)?;
    refuse_too_many(container, processes, request)
}

/// Refuses an exec of which the container would have too many, or too much.
fn refuse_too_many(
    container: &Container,
    processes: &Processes,
    request: &ExecRequest,
) -> Result<(), TaskError> {
    if processes.execs.len() >= EXECS_MAX {
        return Err(TaskError::TooManyExecs(container.id.clone()));
    }
    let plans = processes.execs.values().filter_map(|exec| exec.plan.as_ref());
    let waiting: usize = plans.map(|plan| plan.process.len()).sum();
    match waiting + request.process.len() > SPECS_MAX {
        true => Err(TaskError::TooManySpecs(container.id.clone())),
        false => Ok(()),
    }
}

/// Counts the exec in at the gate of its init: from here on the init's exit waits for it.
pub(super) fn begin(container: &Container, exec: &ExecId) -> Result<ExecPlan, TaskError> {
    let who = ProcessId::Exec(exec.clone());
    let mut processes = container.processes();
    let init = processes.init.state;
    let entry = container.find(&mut processes, &who)?;
    refuse_execs(container, init)?;
    container.advance(entry, &who, "start", Op::Start)?;
    let mut plan = entry.plan.take().expect("an exec is started once, and has its plan until then");
    plan.window_size = entry.window_size;
    container.feed(&mut processes, &who, Input::CallBegan);
    container.feed(&mut processes, &ProcessId::Init, Input::ExecBegan);
    Ok(plan)
}

pub(super) fn started(container: &Container, exec: &ExecId, process: Process, relays: Relays) -> u32 {
    let who = ProcessId::Exec(exec.clone());
    let pid = process.pid.as_u32();
    let mut processes = container.processes();
    let Ok(entry) = container.find(&mut processes, &who) else { return pid };
    let process = Arc::new(process);
    entry.process = Some(process.clone());
    entry.relays = Some(relays);
    // One that was asked for during the start; an earlier one the runtime has set before the process ran.
    if let Err(error) = entry.apply_window_size(&who) {
        tracing::warn!(container = %container.id, %error, "the terminal keeps its size");
    }
    if container.must_die(&processes) {
        // It slipped past the kill-all that its init's death brought. ESRCH: it has ended by itself.
        let _ = process.signal(Signal::KILL);
    }
    let event = Happening::ExecStarted { exec_id: exec.to_string(), pid };
    container.end_start(&mut processes, &who, Op::Started, Some(event));
    pid
}

/// It stays as it was added, can only be deleted, and holds back nothing any more.
pub(super) fn failed(container: &Container, exec: &ExecId) {
    let who = ProcessId::Exec(exec.clone());
    let mut processes = container.processes();
    container.end_start(&mut processes, &who, Op::StartFailedForGood, None);
    if let Ok(entry) = container.find(&mut processes, &who) {
        entry.outcome.send_replace(Outcome::NeverRan);
    }
    container.feed(&mut processes, &ProcessId::Init, Input::ExecEnded);
}
