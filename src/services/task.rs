//! containerd's Task service, versions 2 and 3: the messages are the same.

use async_trait::async_trait;
use protobuf::well_known_types::empty::Empty;
use protobuf::well_known_types::timestamp::Timestamp;
use protobuf::{EnumOrUnknown, MessageField};
use ttrpc::r#async::TtrpcContext;
use vminitd_api::containerd::api::*;
use vminitd_api::containerd::shim::oci::ProcessDetails;
use vminitd_api::containerd::shim_async::Task;
use vminitd_api::containerd::types;
use vminitd_api::type_url;

use super::error::{invalid, unimplemented};
use super::{any, guest_path, names, namespace, options, stats, Domain};
use crate::events::{timestamp, StdioUris};
use crate::io::{StdioSpec, StreamIds};
use crate::sys::signal::Signal;
use crate::task::{
    exec_process, CheckpointRequest, ContainerId, CreateRequest, ExecId, ExecRequest, Mount, ProcessId,
    Reaped, Resources, Status, WindowSize,
};

/// Methods that change nothing and start nothing: they end with their client.
pub const ABANDONABLE: [&str; 4] = ["State", "Wait", "Connect", "Stats"];

/// Go's zero time: what containerd reads as "has not exited". An unset timestamp would be read as 1970.
const NEVER_SECONDS: i64 = -62_135_596_800;

pub struct TaskService {
    domain: Domain,
}

impl TaskService {
    pub fn new(domain: Domain) -> TaskService {
        TaskService { domain }
    }
}

fn stdio(uris: &StdioUris, ids: StreamIds) -> ttrpc::Result<StdioSpec> {
    // A terminal has one output. Hosts send an empty URI for stderr then, or one that nobody is to look at.
    let spec = match uris.terminal {
        true => StdioSpec::parse_terminal(&uris.stdin, &uris.stdout, ids),
        false => StdioSpec::parse(&uris.stdin, &uris.stdout, &uris.stderr, ids),
    };
    Ok(spec?)
}

fn create_request(
    ctx: &TtrpcContext,
    req: CreateTaskRequest,
    ids: StreamIds,
) -> ttrpc::Result<CreateRequest> {
    let id = ContainerId::parse(&req.id)?;
    let bundle = guest_path("bundle", &req.bundle)?;
    if !req.checkpoint.is_empty() || !req.parent_checkpoint.is_empty() {
        return Err(unimplemented("create from a checkpoint"));
    }
    let (stdin, stdout, stderr, terminal) = (req.stdin, req.stdout, req.stderr, req.terminal);
    let uris = StdioUris { stdin, stdout, stderr, terminal };
    let mount = |m: types::mount::Mount| Mount {
        kind: m.type_,
        source: m.source,
        target: m.target,
        options: m.options,
    };
    let chosen = options::chosen(req.options.as_ref())?;
    Ok(CreateRequest {
        id,
        namespace: namespace(ctx),
        bundle,
        rootfs: req.rootfs.into_iter().map(mount).collect(),
        stdio: stdio(&uris, ids)?,
        uris,
        runtime: chosen.runtime,
        owner: chosen.owner,
    })
}

fn exec_request(req: ExecProcessRequest, ids: StreamIds) -> ttrpc::Result<ExecRequest> {
    let container = ContainerId::parse(&req.id)?;
    let exec = ExecId::parse(&req.exec_id)?;
    // Its type URL is not looked at: hosts differ in it, and the value is JSON all the same.
    let process = req.spec.into_option().map(|spec| spec.value).unwrap_or_default();
    if process.is_empty() {
        return Err(invalid("an exec needs a process spec"));
    }
    let process = exec_process(&process, req.terminal).map_err(invalid)?;
    let (stdin, stdout, stderr, terminal) = (req.stdin, req.stdout, req.stderr, req.terminal);
    let uris = StdioUris { stdin, stdout, stderr, terminal };
    Ok(ExecRequest { container, exec, process, stdio: stdio(&uris, ids)?, uris })
}

fn window_size(req: &ResizePtyRequest) -> ttrpc::Result<WindowSize> {
    // The kernel's `struct winsize` has 16 bits for each.
    let characters =
        |name, n| u16::try_from(n).map_err(|_| invalid(format_args!("{name} {n} is more than {}", u16::MAX)));
    Ok(WindowSize { columns: characters("width", req.width)?, rows: characters("height", req.height)? })
}

fn checkpoint_request(ctx: &TtrpcContext, req: CheckpointTaskRequest) -> ttrpc::Result<CheckpointRequest> {
    let container = ContainerId::parse(&req.id)?;
    let options = options::checkpoint(req.options.as_ref())?;
    // containerd's shim names the folder in either place.
    let path = match (req.path.as_str(), &options.image_path) {
        ("", Some(path)) => path.clone(),
        (path, _) => guest_path("path", path)?,
    };
    Ok(CheckpointRequest { container, path, options, patience: crate::wire::patience(ctx.timeout_nano) })
}

fn status(status: Status) -> EnumOrUnknown<types::task::Status> {
    let status = match status {
        Status::Created => types::task::Status::CREATED,
        Status::Running => types::task::Status::RUNNING,
        Status::Pausing => types::task::Status::PAUSING,
        Status::Paused => types::task::Status::PAUSED,
        Status::Stopped => types::task::Status::STOPPED,
    };
    status.into()
}

/// Status and time of an exit; 0 and Go's zero time before it.
fn exit(reaped: Option<Reaped>) -> (u32, MessageField<Timestamp>) {
    let never = || Timestamp { seconds: NEVER_SECONDS, ..Default::default() };
    let at = reaped.map_or_else(never, |reaped| timestamp(reaped.at));
    (reaped.map_or(0, |reaped| reaped.exit.status()), MessageField::some(at))
}

fn process_info((pid, exec_id): (u32, Option<String>)) -> ProcessInfo {
    let details = |exec_id| any(type_url::PROCESS_DETAILS, &ProcessDetails { exec_id, ..Default::default() });
    ProcessInfo { pid, info: exec_id.map(details).into(), ..Default::default() }
}

/// Handlers of what may write to a disk say so to the freezer first, and last until they answer.
#[async_trait]
impl Task for TaskService {
    async fn create(&self, ctx: &TtrpcContext, req: CreateTaskRequest) -> ttrpc::Result<CreateTaskResponse> {
        let request = create_request(ctx, req, self.domain.stream_ids)?;
        let _writing = self.domain.freezer.write()?;
        let pid = self.domain.tasks.create(request).await?;
        Ok(CreateTaskResponse { pid, ..Default::default() })
    }

    async fn start(&self, _ctx: &TtrpcContext, req: StartRequest) -> ttrpc::Result<StartResponse> {
        let (id, process) = names(&req.id, &req.exec_id)?;
        let _writing = self.domain.freezer.write()?;
        let pid = self.domain.tasks.start(&id, &process).await?;
        Ok(StartResponse { pid, ..Default::default() })
    }

    async fn exec(&self, _ctx: &TtrpcContext, req: ExecProcessRequest) -> ttrpc::Result<Empty> {
        let request = exec_request(req, self.domain.stream_ids)?;
        let _writing = self.domain.freezer.write()?;
        self.domain.tasks.exec(request).await?;
        Ok(Empty::new())
    }

    async fn state(&self, _ctx: &TtrpcContext, req: StateRequest) -> ttrpc::Result<StateResponse> {
        let (id, process) = names(&req.id, &req.exec_id)?;
        let (bundle, snapshot) = self.domain.tasks.state(&id, &process)?;
        let (exit_status, exited_at) = exit(snapshot.reaped);
        let StdioUris { stdin, stdout, stderr, terminal } = snapshot.uris;
        Ok(StateResponse {
            // containerd reads the name of the process here: the exec's own, if it is one.
            id: if req.exec_id.is_empty() { req.id } else { req.exec_id.clone() },
            exec_id: req.exec_id,
            bundle: bundle.to_string_lossy().into_owned(),
            pid: snapshot.pid,
            status: status(snapshot.status),
            stdin,
            stdout,
            stderr,
            terminal,
            exit_status,
            exited_at,
            ..Default::default()
        })
    }

    async fn wait(&self, _ctx: &TtrpcContext, req: WaitRequest) -> ttrpc::Result<WaitResponse> {
        let (id, process) = names(&req.id, &req.exec_id)?;
        let reaped = self.domain.tasks.wait(&id, &process).await?;
        let (exit_status, exited_at) = exit(Some(reaped));
        Ok(WaitResponse { exit_status, exited_at, ..Default::default() })
    }

    async fn kill(&self, _ctx: &TtrpcContext, req: KillRequest) -> ttrpc::Result<Empty> {
        let (id, process) = names(&req.id, &req.exec_id)?;
        let signal = Signal::try_from(req.signal).map_err(invalid)?;
        self.domain.tasks.kill(&id, &process, signal, req.all).await?;
        Ok(Empty::new())
    }

    async fn delete(&self, ctx: &TtrpcContext, req: DeleteRequest) -> ttrpc::Result<DeleteResponse> {
        let (id, process) = names(&req.id, &req.exec_id)?;
        // An exec has nothing on a disk.
        let _writing = match process {
            ProcessId::Init => Some(self.domain.freezer.write()?),
            ProcessId::Exec(_) => None,
        };
        let patience = crate::wire::patience(ctx.timeout_nano);
        let deleted = self.domain.tasks.delete(&id, &process, patience).await?;
        let (exit_status, exited_at) = exit(deleted.reaped);
        Ok(DeleteResponse { pid: deleted.pid, exit_status, exited_at, ..Default::default() })
    }

    async fn pids(&self, _ctx: &TtrpcContext, req: PidsRequest) -> ttrpc::Result<PidsResponse> {
        let id = ContainerId::parse(&req.id)?;
        let pids = self.domain.tasks.pids(&id).await?;
        Ok(PidsResponse { processes: pids.into_iter().map(process_info).collect(), ..Default::default() })
    }

    async fn connect(&self, _ctx: &TtrpcContext, req: ConnectRequest) -> ttrpc::Result<ConnectResponse> {
        let id = ContainerId::parse(&req.id)?;
        // A container that is not there has no pid; the shim is there all the same.
        let task_pid = self.domain.tasks.state(&id, &ProcessId::Init).map_or(0, |(_, init)| init.pid);
        let (shim_pid, version) = (std::process::id(), self.domain.version.clone());
        Ok(ConnectResponse { shim_pid, task_pid, version, ..Default::default() })
    }

    async fn shutdown(&self, _ctx: &TtrpcContext, req: ShutdownRequest) -> ttrpc::Result<Empty> {
        // It means the guest as a whole, so hosts may leave the id empty.
        if !req.id.is_empty() {
            ContainerId::parse(&req.id)?;
        }
        if self.domain.tasks.is_empty() {
            self.domain.stop.send_replace(true);
        }
        Ok(Empty::new())
    }

    async fn pause(&self, _ctx: &TtrpcContext, req: PauseRequest) -> ttrpc::Result<Empty> {
        self.domain.tasks.pause(&ContainerId::parse(&req.id)?).await?;
        Ok(Empty::new())
    }

    async fn resume(&self, _ctx: &TtrpcContext, req: ResumeRequest) -> ttrpc::Result<Empty> {
        self.domain.tasks.resume(&ContainerId::parse(&req.id)?).await?;
        Ok(Empty::new())
    }

    async fn checkpoint(&self, ctx: &TtrpcContext, req: CheckpointTaskRequest) -> ttrpc::Result<Empty> {
        let request = checkpoint_request(ctx, req)?;
        let _writing = self.domain.freezer.write()?;
        self.domain.tasks.checkpoint(request).await?;
        Ok(Empty::new())
    }

    async fn resize_pty(&self, _ctx: &TtrpcContext, req: ResizePtyRequest) -> ttrpc::Result<Empty> {
        let (id, process) = names(&req.id, &req.exec_id)?;
        self.domain.tasks.resize(&id, &process, window_size(&req)?)?;
        Ok(Empty::new())
    }

    async fn close_io(&self, _ctx: &TtrpcContext, req: CloseIORequest) -> ttrpc::Result<Empty> {
        let (id, process) = names(&req.id, &req.exec_id)?;
        // There is nothing else that it could close, so without `stdin` it only looks whether the process is there.
        self.domain.tasks.close_io(&id, &process, req.stdin)?;
        Ok(Empty::new())
    }

    async fn update(&self, _ctx: &TtrpcContext, req: UpdateTaskRequest) -> ttrpc::Result<Empty> {
        let id = ContainerId::parse(&req.id)?;
        let json = req.resources.into_option().map(|resources| resources.value).unwrap_or_default();
        let resources = Resources::parse(&json).map_err(invalid)?;
        self.domain.tasks.update(&id, &resources).await?;
        Ok(Empty::new())
    }

    async fn stats(&self, _ctx: &TtrpcContext, req: StatsRequest) -> ttrpc::Result<StatsResponse> {
        let stats = self.domain.tasks.stats(&ContainerId::parse(&req.id)?).await?;
        Ok(StatsResponse { stats: MessageField::some(stats::any(&stats)), ..Default::default() })
    }
}
