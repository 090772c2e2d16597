//! Requests as short calls, for tests that make many of them. Adds nothing to what the client does.

use std::future::Future;

use serde_json::Value;
use vminit_shim::api::containerd::api::{
    CloseIORequest, CreateTaskRequest, ExecProcessRequest, KillRequest, PauseRequest, PidsRequest,
    ProcessInfo, ResumeRequest, StateRequest, StateResponse, Status, UpdateTaskRequest,
};
use vminit_shim::api::protobuf::well_known_types::any::Any;
use vminit_shim::api::ttrpc::{self, Code};
use vminit_shim::client::{context, ClientError, Container, Exec, Guest, Stdio, INIT};
use vminit_shim::spec;

use crate::{LIMIT, PATIENCE};

/// Where stdin, stdout and stderr go; an empty one is nowhere.
pub type Uris<'a> = [&'a str; 3];

/// Makes a bundle and a container without stdio in it, for a runc that does not look at root file systems.
pub async fn create(guest: &Guest, id: &str, args: &[&str]) -> Result<u32, ClientError> {
    let config = spec::container(args);
    guest.create(Container { id, config: &config, rootfs: &[] }, &Stdio::default()).await
}

/// The same, started.
pub async fn running(guest: &Guest, id: &str, args: &[&str]) {
    create(guest, id, args).await.expect("create");
    guest.start(id, INIT).await.expect("start");
}

/// The same, without a pid namespace of its own: what its init leaves is the daemon's to kill.
pub async fn running_in_shared_pids(guest: &Guest, id: &str, args: &[&str]) {
    let mut config = spec::container(args);
    spec::share_pids(&mut config);
    guest.create(Container { id, config: &config, rootfs: &[] }, &Stdio::default()).await.expect("create");
    guest.start(id, INIT).await.expect("start");
}

/// Adds a process without stdio.
pub async fn exec(guest: &Guest, id: &str, exec_id: &str, args: &[&str]) -> Result<(), ClientError> {
    let process = spec::process(args);
    guest.exec(Exec { container_id: id, exec_id, process: &process }, &Stdio::default()).await
}

/// Makes a bundle and a container in it, with stdio of the test's own choice.
pub async fn create_with_uris(
    guest: &Guest,
    id: &str,
    config: &Value,
    uris: Uris<'_>,
    terminal: bool,
) -> Result<u32, ClientError> {
    let bundle = guest.bundle(id, config).await?;
    let [stdin, stdout, stderr] = uris.map(str::to_owned);
    let id = id.to_owned();
    let request = CreateTaskRequest { id, bundle, stdin, stdout, stderr, terminal, ..Default::default() };
    let reply = guest.client.task().create(patient(), &request).await;
    reply.map(|reply| reply.pid).map_err(named("Task.Create"))
}

/// Adds a process with stdio of the test's own choice.
pub async fn exec_with_uris(
    guest: &Guest,
    id: &str,
    exec_id: &str,
    args: &[&str],
    uris: Uris<'_>,
    terminal: bool,
) -> Result<(), ClientError> {
    let [stdin, stdout, stderr] = uris.map(str::to_owned);
    let spec = Any { value: spec::process(args).to_string().into_bytes(), ..Default::default() };
    let request = ExecProcessRequest {
        id: id.into(),
        exec_id: exec_id.into(),
        spec: Some(spec).into(),
        stdin,
        stdout,
        stderr,
        terminal,
        ..Default::default()
    };
    guest.client.task().exec(patient(), &request).await.map(drop).map_err(named("Task.Exec"))
}

/// Task.CloseIO.
pub async fn close_io(guest: &Guest, id: &str, exec_id: &str, stdin: bool) -> Result<(), Code> {
    let request = CloseIORequest { id: id.into(), exec_id: exec_id.into(), stdin, ..Default::default() };
    guest.client.task().close_io(brief(), &request).await.map(drop).map_err(rpc_code)
}

/// Waits for the end of a process and deletes it at once; its status.
pub async fn reap(guest: &Guest, id: &str, exec_id: &str) -> u32 {
    let status = guest.wait(id, exec_id).await.expect("wait").status;
    guest.delete(id, exec_id).await.expect("delete");
    status
}

/// Task.State, with the code of a refusal.
pub async fn state(guest: &Guest, id: &str, exec_id: &str) -> Result<StateResponse, Code> {
    let request = StateRequest { id: id.into(), exec_id: exec_id.into(), ..Default::default() };
    guest.client.task().state(brief(), &request).await.map_err(rpc_code)
}

/// What Task.State says the process is doing.
pub async fn status(guest: &Guest, id: &str, exec_id: &str) -> Status {
    state(guest, id, exec_id).await.expect("state").status.enum_value().expect("a known status")
}

/// Waits until the process has been reaped, which comes before its exit is told.
pub async fn stopped(guest: &Guest, id: &str, exec_id: &str) {
    let asking = async { while status(guest, id, exec_id).await != Status::STOPPED {} };
    tokio::time::timeout(LIMIT, asking).await.unwrap_or_else(|_| panic!("{id}/{exec_id} does not stop"));
}

/// Task.Pause.
pub async fn pause(guest: &Guest, id: &str) -> Result<(), ClientError> {
    let request = PauseRequest { id: id.into(), ..Default::default() };
    guest.client.task().pause(patient(), &request).await.map(drop).map_err(named("Task.Pause"))
}

/// Task.Resume.
pub async fn resume(guest: &Guest, id: &str) -> Result<(), ClientError> {
    let request = ResumeRequest { id: id.into(), ..Default::default() };
    guest.client.task().resume(patient(), &request).await.map(drop).map_err(named("Task.Resume"))
}

/// Task.Kill of all processes of a container.
pub async fn kill_all(guest: &Guest, id: &str, signal: u32) -> Result<(), ClientError> {
    let request = KillRequest { id: id.into(), signal, all: true, ..Default::default() };
    guest.client.task().kill(patient(), &request).await.map(drop).map_err(named("Task.Kill"))
}

/// Task.Update with these resources, in JSON; `None`: without the field.
pub async fn update(guest: &Guest, id: &str, resources: Option<&str>) -> Result<(), ClientError> {
    let any = |json: &str| Any {
        type_url: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources".into(),
        value: json.into(),
        ..Default::default()
    };
    let resources = resources.map(any).into();
    let request = UpdateTaskRequest { id: id.into(), resources, ..Default::default() };
    guest.client.task().update(patient(), &request).await.map(drop).map_err(named("Task.Update"))
}

/// Task.Pids.
pub async fn pids(guest: &Guest, id: &str) -> Result<Vec<ProcessInfo>, ClientError> {
    let request = PidsRequest { id: id.into(), ..Default::default() };
    let reply = guest.client.task().pids(patient(), &request).await;
    reply.map(|reply| reply.processes).map_err(named("Task.Pids"))
}

/// The answer of a call on this connection. `None`: a State that was asked for later was answered first, so the daemon
/// has the call, and it may be awaited on.
pub async fn answer_at_once<T>(guest: &Guest, call: impl Future<Output = T>) -> Option<T> {
    let later = async {
        // Twice, so that the first has been read with the call before it.
        let _ = state(guest, "any", INIT).await;
        let _ = state(guest, "any", INIT).await;
    };
    tokio::select! {
        biased;
        answer = call => Some(answer),
        () = later => None,
    }
}

/// The context of a request in which runc has a part, or a process.
pub fn patient() -> ttrpc::context::Context {
    context(PATIENCE, "default")
}

fn named(call: &'static str) -> impl FnOnce(ttrpc::Error) -> ClientError {
    move |source| ClientError::Rpc { call, source }
}

/// The context of a request that is answered at once.
pub fn brief() -> ttrpc::context::Context {
    context(LIMIT, "default")
}

/// The code of a refusal; a test fails on anything else that goes wrong.
pub fn rpc_code(error: ttrpc::Error) -> Code {
    match error {
        ttrpc::Error::RpcStatus(status) => status.code(),
        other => panic!("not an answer of the daemon: {other}"),
    }
}

/// Create in a bundle of the caller's choice.
pub async fn create_in(guest: &Guest, id: &str, bundle: &str) -> Result<u32, Code> {
    let request = CreateTaskRequest { id: id.into(), bundle: bundle.into(), ..Default::default() };
    guest.client.task().create(brief(), &request).await.map(|reply| reply.pid).map_err(rpc_code)
}
