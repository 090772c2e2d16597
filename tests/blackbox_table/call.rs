//! The methods of the Task service as values, and their answers in a form that can be written in a table.

use vminit_shim::api::containerd::api::*;
use vminit_shim::api::protobuf::{well_known_types::any::Any, EnumOrUnknown};
use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::{ClientError, Exit, Guest};
use vminitd_test_support::calls::{brief, exec, rpc_code, state};

use crate::rig::Rig;

/// A call, apart from the names in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Create,
    /// Create from a checkpoint.
    Restore,
    Start,
    Exec,
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
            Method::Kill(signal) => kill(guest, id, exec_id, signal, false).await,
            Method::KillAll(signal) => kill(guest, id, exec_id, signal, true).await,
            Method::Delete => guest.delete(&id, &exec_id).await.map(exit).map_err(code_of),
            Method::State => state(guest, &id, &exec_id).await.map(|state| is(state.status)),
            Method::Wait => wait(guest, &id, &exec_id).await,
            Method::Pause => pause(guest, &id).await.map(done),
            Method::Update(resources) => update(guest, id, resources).await,
            Method::Checkpoint => checkpoint(rig, id).await,
            Method::Resume | Method::Stats | Method::Pids | Method::Connect | Method::Shutdown => {
                self.answer_of_container(guest, id).await
            }
        }
    }

    async fn answer_of_container(self, guest: &Guest, id: String) -> Result<Answer, Code> {
        let task = guest.client.task();
        let answered = match self {
            Method::Resume => {
                task.resume(brief(), &ResumeRequest { id, ..Default::default() }).await.map(done)
            }
            Method::Stats => task.stats(brief(), &StatsRequest { id, ..Default::default() }).await.map(done),
            Method::Pids => {
                let pids = task.pids(brief(), &PidsRequest { id, ..Default::default() }).await;
                pids.map(|pids| Answer::Processes(pids.processes.len()))
            }
            Method::Connect => {
                let connected = task.connect(brief(), &ConnectRequest { id, ..Default::default() }).await;
                connected.map(|connected| Answer::Process(connected.task_pid != 0))
            }
            _ => task.shutdown(brief(), &ShutdownRequest { id, ..Default::default() }).await.map(done),
        };
        answered.map_err(rpc_code)
    }
}

pub async fn pause(guest: &Guest, id: &str) -> Result<Empty, Code> {
    let request = PauseRequest { id: id.into(), ..Default::default() };
    guest.client.task().pause(brief(), &request).await.map_err(rpc_code)
}

/// In a bundle of the right name; one that there is already is used as it is.
async fn create(rig: &Rig, id: &str, checkpoint: &str) -> Result<Answer, Code> {
    let _ = rig.guest.bundle(id, &rig.config(id)).await;
    let bundle = rig.daemon.dir().join("bundles").join(id).display().to_string();
    let (id, checkpoint) = (id.into(), checkpoint.into());
    let request = CreateTaskRequest { id, bundle, checkpoint, ..Default::default() };
    rig.guest.client.task().create(brief(), &request).await.map(done).map_err(rpc_code)
}

async fn kill(guest: &Guest, id: String, exec_id: String, signal: u32, all: bool) -> Result<Answer, Code> {
    let request = KillRequest { id, exec_id, signal, all, ..Default::default() };
    guest.client.task().kill(brief(), &request).await.map(done).map_err(rpc_code)
}

/// A Wait that is not answered before a State that was asked for later blocks.
async fn wait(guest: &Guest, id: &str, exec_id: &str) -> Result<Answer, Code> {
    let wait = async { guest.wait(id, exec_id).await.map(exit).map_err(code_of) };
    let later = async {
        // Twice, so that the first has been read with the Wait before it.
        let _ = state(guest, id, exec_id).await;
        let _ = state(guest, id, exec_id).await;
    };
    tokio::select! {
        biased;
        answer = wait => answer,
        () = later => Ok(Answer::Blocks),
    }
}

async fn update(guest: &Guest, id: String, resources: Option<&str>) -> Result<Answer, Code> {
    let any = |json: &str| Any {
        type_url: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources".into(),
        value: json.into(),
        ..Default::default()
    };
    let resources = resources.map(any).into();
    let request = UpdateTaskRequest { id, resources, ..Default::default() };
    guest.client.task().update(brief(), &request).await.map(done).map_err(rpc_code)
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

fn is(status: EnumOrUnknown<Status>) -> Answer {
    Answer::Is(status.enum_value_or_default())
}

/// The code of a refusal; a test fails on anything else that goes wrong.
fn code_of(error: ClientError) -> Code {
    error.code().unwrap_or_else(|| panic!("not an answer of the daemon: {error}"))
}
