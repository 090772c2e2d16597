//! containerd's Task service, versions 2 and 3: decode, one call, encode. Owns the form of requests and answers; never
//! decides anything.

mod error;

use std::process;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use vminitd_api::containerd::api::*;
use vminitd_api::containerd::shim_async::Task;
use vminitd_api::containerd::types;
use vminitd_api::protobuf::well_known_types::any::Any;
use vminitd_api::protobuf::well_known_types::timestamp::Timestamp;
use vminitd_api::protobuf::MessageField;
use vminitd_api::timestamp;
use vminitd_api::ttrpc::{self, asynchronous::TtrpcContext, get_status, Code};

use crate::caller;
use crate::events::Stdio;
use crate::state::Exit;
use crate::task::{CreateRequest, ExecRequest, Status, Tasks};
use error::{invalid, to_ttrpc};

/// Go's zero time: what containerd reads as "has not exited". An unset timestamp would be read as 1970.
const NEVER_SECONDS: i64 = -62_135_596_800;

/// The service over the tasks of this shim.
pub struct TaskService {
    tasks: Arc<Tasks>,
    stop: CancellationToken,
}

impl TaskService {
    /// `stop` is cancelled by the Shutdown that finds no task left.
    pub fn new(tasks: Arc<Tasks>, stop: CancellationToken) -> TaskService {
        TaskService { tasks, stop }
    }
}

fn create_request(req: CreateTaskRequest) -> ttrpc::Result<CreateRequest> {
    if !req.checkpoint.is_empty() || !req.parent_checkpoint.is_empty() {
        return Err(invalid("a microVM cannot be created from a checkpoint"));
    }
    let (stdin, stdout, stderr, terminal) = (req.stdin, req.stdout, req.stderr, req.terminal);
    let stdio = Stdio { stdin, stdout, stderr, terminal };
    Ok(CreateRequest { id: req.id, bundle: req.bundle.into(), rootfs: req.rootfs, stdio })
}

fn exec_request(req: ExecProcessRequest) -> ttrpc::Result<ExecRequest> {
    if req.exec_id.is_empty() {
        return Err(invalid("an exec needs an id"));
    }
    // In events this id means the init.
    if req.exec_id == req.id {
        let text = format!("an exec cannot have the id of its container: {}", req.exec_id);
        return Err(invalid(text));
    }
    let process = json(req.spec, "the process of an exec")?;
    let (stdin, stdout, stderr, terminal) = (req.stdin, req.stdout, req.stderr, req.terminal);
    let stdio = Stdio { stdin, stdout, stderr, terminal };
    Ok(ExecRequest { id: req.id, exec_id: req.exec_id, process, stdio })
}

/// The type URL is not looked at: clients differ in it, and the value is JSON all the same.
fn json(any: MessageField<Any>, what: &str) -> ttrpc::Result<Value> {
    let bytes = any.into_option().map(|any| any.value).unwrap_or_default();
    serde_json::from_slice(&bytes).map_err(|error| invalid(format_args!("{what} is no JSON: {error}")))
}

fn status(status: Status) -> types::task::Status {
    match status {
        Status::Created => types::task::Status::CREATED,
        Status::Running => types::task::Status::RUNNING,
        Status::Paused => types::task::Status::PAUSED,
        Status::Stopped => types::task::Status::STOPPED,
    }
}

/// Status and time of an exit; 0 and Go's zero time without one.
fn exited(exit: Option<Exit>) -> (u32, MessageField<Timestamp>) {
    let never = || Timestamp { seconds: NEVER_SECONDS, ..Default::default() };
    let at = exit.map_or_else(never, |exit| timestamp(exit.at));
    (exit.map_or(0, |exit| exit.status), MessageField::some(at))
}

#[async_trait]
impl Task for TaskService {
    async fn create(&self, _: &TtrpcContext, req: CreateTaskRequest) -> ttrpc::Result<CreateTaskResponse> {
        let pid = self.tasks.create(create_request(req)?, caller::gone()).await.map_err(to_ttrpc)?;
        Ok(CreateTaskResponse { pid, ..Default::default() })
    }

    async fn start(&self, _: &TtrpcContext, req: StartRequest) -> ttrpc::Result<StartResponse> {
        let pid = self.tasks.start(&req.id, &req.exec_id).await.map_err(to_ttrpc)?;
        Ok(StartResponse { pid, ..Default::default() })
    }

    async fn exec(&self, _: &TtrpcContext, req: ExecProcessRequest) -> ttrpc::Result<Empty> {
        self.tasks.exec(exec_request(req)?).await.map_err(to_ttrpc)?;
        Ok(Empty::new())
    }

    async fn state(&self, _: &TtrpcContext, req: StateRequest) -> ttrpc::Result<StateResponse> {
        let process = self.tasks.state(&req.id, &req.exec_id).map_err(to_ttrpc)?;
        let (exit_status, exited_at) = exited(process.exit);
        Ok(StateResponse {
            // containerd reads the name of the process here: the exec's own, if it is one.
            id: if req.exec_id.is_empty() { req.id } else { req.exec_id.clone() },
            exec_id: req.exec_id,
            bundle: process.bundle,
            pid: process.pid,
            status: status(process.status).into(),
            stdin: process.stdio.stdin,
            stdout: process.stdio.stdout,
            stderr: process.stdio.stderr,
            terminal: process.stdio.terminal,
            exit_status,
            exited_at,
            ..Default::default()
        })
    }

    async fn wait(&self, _: &TtrpcContext, req: WaitRequest) -> ttrpc::Result<WaitResponse> {
        let exit = self.tasks.wait(&req.id, &req.exec_id).await.map_err(to_ttrpc)?;
        let (exit_status, exited_at) = exited(Some(exit));
        Ok(WaitResponse { exit_status, exited_at, ..Default::default() })
    }

    async fn kill(&self, _: &TtrpcContext, req: KillRequest) -> ttrpc::Result<Empty> {
        self.tasks.kill(&req.id, &req.exec_id, req.signal, req.all).await.map_err(to_ttrpc)?;
        Ok(Empty::new())
    }

    async fn delete(&self, _: &TtrpcContext, req: DeleteRequest) -> ttrpc::Result<DeleteResponse> {
        let deleted = self.tasks.delete(&req.id, &req.exec_id).await.map_err(to_ttrpc)?;
        let (exit_status, exited_at) = exited(deleted.exit);
        Ok(DeleteResponse { pid: deleted.pid, exit_status, exited_at, ..Default::default() })
    }

    async fn pids(&self, _: &TtrpcContext, req: PidsRequest) -> ttrpc::Result<PidsResponse> {
        let processes = self.tasks.pids(&req.id).await.map_err(to_ttrpc)?;
        Ok(PidsResponse { processes, ..Default::default() })
    }

    async fn pause(&self, _: &TtrpcContext, req: PauseRequest) -> ttrpc::Result<Empty> {
        self.tasks.pause(&req.id).await.map_err(to_ttrpc)?;
        Ok(Empty::new())
    }

    async fn resume(&self, _: &TtrpcContext, req: ResumeRequest) -> ttrpc::Result<Empty> {
        self.tasks.resume(&req.id).await.map_err(to_ttrpc)?;
        Ok(Empty::new())
    }

    async fn resize_pty(&self, _: &TtrpcContext, req: ResizePtyRequest) -> ttrpc::Result<Empty> {
        self.tasks.resize(&req.id, &req.exec_id, req.width, req.height).await.map_err(to_ttrpc)?;
        Ok(Empty::new())
    }

    async fn close_io(&self, _: &TtrpcContext, req: CloseIORequest) -> ttrpc::Result<Empty> {
        // There is nothing else that it could close.
        if req.stdin {
            self.tasks.close_stdin(&req.id, &req.exec_id).map_err(to_ttrpc)?;
        }
        Ok(Empty::new())
    }

    async fn update(&self, _: &TtrpcContext, req: UpdateTaskRequest) -> ttrpc::Result<Empty> {
        let resources = json(req.resources, "the resources of an update")?;
        self.tasks.update(&req.id, resources).await.map_err(to_ttrpc)?;
        Ok(Empty::new())
    }

    async fn stats(&self, _: &TtrpcContext, req: StatsRequest) -> ttrpc::Result<StatsResponse> {
        let stats = self.tasks.stats(&req.id).await.map_err(to_ttrpc)?;
        Ok(StatsResponse { stats: stats.into(), ..Default::default() })
    }

    async fn checkpoint(&self, _: &TtrpcContext, _: CheckpointTaskRequest) -> ttrpc::Result<Empty> {
        let text = "checkpoints of a microVM's containers are not supported";
        Err(ttrpc::Error::RpcStatus(get_status(Code::UNIMPLEMENTED, text)))
    }

    async fn connect(&self, _: &TtrpcContext, req: ConnectRequest) -> ttrpc::Result<ConnectResponse> {
        // A task that is not there has no pid; the shim is there all the same.
        let task_pid = self.tasks.state(&req.id, "").map_or(0, |init| init.pid);
        let (shim_pid, version) = (process::id(), env!("CARGO_PKG_VERSION").to_owned());
        Ok(ConnectResponse { shim_pid, task_pid, version, ..Default::default() })
    }

    async fn shutdown(&self, _: &TtrpcContext, _: ShutdownRequest) -> ttrpc::Result<Empty> {
        if self.tasks.is_empty() {
            self.stop.cancel();
        }
        Ok(Empty::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exec_has_an_id_of_its_own() {
        let request = |exec_id: &str| {
            let spec = MessageField::some(Any { value: b"{}".to_vec(), ..Default::default() });
            ExecProcessRequest { id: "c".into(), exec_id: exec_id.into(), spec, ..Default::default() }
        };
        assert!(exec_request(request("e")).is_ok());
        for exec_id in ["", "c"] {
            let refused = exec_request(request(exec_id)).unwrap_err();
            assert!(refused.to_string().contains("INVALID_ARGUMENT"), "{refused}");
        }
    }
}
