//! The methods of the Task service as values, and their answers in a form that can be written in a table.

use vminit_shim::api::containerd::api::*;
use vminit_shim::api::protobuf::EnumOrUnknown;
use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::{Exit, Guest};
use vminitd_test_support::calls::*;
use vminitd_test_support::code_of;

use crate::rig::Rig;

/// A call, apart from the names in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Create,
    /// Create from a checkpoint.
    Restore,
    Start,
    Exec,
    /// Exec without the field `spec`.
    ExecOfNothing,
    Kill(u32),
    KillAll(u32),
    Delete,
    State,
    Wait,
    Pause,
    Resume,
    /// With these resources; `None`: without the field.
    Update(Option<&'static str>),
    Checkpoint,
    Stats,
    Pids,
    Connect,
    Shutdown,
}

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Success that says no more.
    Done,
    /// Success with this exit status.
    Exit(u32),
    /// Success with this state.
    Is(Status),
    /// Success with so many processes.
    Processes(usize),
    /// Success, and whether there is a process.
    Process(bool),
    /// None while other calls are answered.
    Blocks,
    Refused(Code),
}

impl Method {
    /// Whether its answer depends on the exec id.
    pub fn names_an_exec(self) -> bool {
        use Method::*;
        matches!(self, Start | Exec | Kill(_) | Delete | State | Wait)
    }

    /// Makes the call. Methods without an exec id name the container alone.
    pub async fn call(self, rig: &Rig, id: &str, exec_id: &str) -> Answer {
        self.answer(rig, id, exec_id).await.unwrap_or_else(Answer::Refused)
    }

    async fn answer(self, rig: &Rig, id: &str, exec_id: &str) -> Result<Answer, Code> {
        let (guest, id, exec_id) = (&rig.guest, id.to_owned(), exec_id.to_owned());
        match self {
            Method::Create => create(rig, &id, "").await,
            Method::Restore => create(rig, &id, "/image").await,
            Method::Start => guest.start(&id, &exec_id).await.map(|_| Answer::Done).map_err(code_of),
            Method::Exec => exec(guest, &id, &exec_id, &["exit", "0"]).await.map(done).map_err(code_of),
            Method::ExecOfNothing => exec_of_nothing(guest, id, exec_id).await,
            Method::Kill(signal) => guest.kill(&id, &exec_id, signal).await.map(done).map_err(code_of),
            Method::KillAll(signal) => kill_all(guest, &id, signal).await.map(done).map_err(code_of),
            Method::Delete => guest.delete(&id, &exec_id).await.map(exit).map_err(code_of),
            Method::State => state(guest, &id, &exec_id).await.map(|state| is(state.status)),
            Method::Wait => wait(guest, &id, &exec_id).await,
            Method::Pause => pause(guest, &id).await.map(done).map_err(code_of),
            Method::Resume => resume(guest, &id).await.map(done).map_err(code_of),
            Method::Update(resources) => update(guest, &id, resources).await.map(done).map_err(code_of),
            Method::Pids => pids(guest, &id).await.map(processes).map_err(code_of),
            Method::Checkpoint => checkpoint(rig, id).await,
            Method::Stats | Method::Connect | Method::Shutdown => self.answer_of_container(guest, id).await,
        }
    }

    async fn answer_of_container(self, guest: &Guest, id: String) -> Result<Answer, Code> {
        let task = guest.client.task();
        let answered = match self {
            Method::Stats => task.stats(brief(), &StatsRequest { id, ..Default::default() }).await.map(done),
            Method::Connect => {
                let connected = task.connect(brief(), &ConnectRequest { id, ..Default::default() }).await;
                connected.map(|connected| Answer::Process(connected.task_pid != 0))
            }
            _ => task.shutdown(brief(), &ShutdownRequest { id, ..Default::default() }).await.map(done),
        };
        answered.map_err(rpc_code)
    }
}

/// In a bundle of the right name; one that there is already is used as it is.
async fn create(rig: &Rig, id: &str, checkpoint: &str) -> Result<Answer, Code> {
    let _ = rig.guest.bundle(id, &rig.config(id)).await;
    let bundle = rig.daemon.bundle(id).display().to_string();
    let (id, checkpoint) = (id.into(), checkpoint.into());
    let request = CreateTaskRequest { id, bundle, checkpoint, ..Default::default() };
    rig.guest.client.task().create(brief(), &request).await.map(done).map_err(rpc_code)
}

async fn exec_of_nothing(guest: &Guest, id: String, exec_id: String) -> Result<Answer, Code> {
    let request = ExecProcessRequest { id, exec_id, ..Default::default() };
    guest.client.task().exec(brief(), &request).await.map(done).map_err(rpc_code)
}

async fn wait(guest: &Guest, id: &str, exec_id: &str) -> Result<Answer, Code> {
    let answer = answer_at_once(guest, guest.wait(id, exec_id)).await;
    answer.map_or(Ok(Answer::Blocks), |answer| answer.map(exit).map_err(code_of))
}

async fn checkpoint(rig: &Rig, id: String) -> Result<Answer, Code> {
    let path = rig.daemon.dir().join(format!("image-{id}")).display().to_string();
    let request = CheckpointTaskRequest { id, path, ..Default::default() };
    rig.guest.client.task().checkpoint(brief(), &request).await.map(done).map_err(rpc_code)
}

fn done<T>(_: T) -> Answer {
    Answer::Done
}

fn exit(exit: Exit) -> Answer {
    Answer::Exit(exit.status)
}

fn processes(all: Vec<ProcessInfo>) -> Answer {
    Answer::Processes(all.len())
}

fn is(status: EnumOrUnknown<Status>) -> Answer {
    Answer::Is(status.enum_value_or_default())
}
