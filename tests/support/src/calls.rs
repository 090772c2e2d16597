//! Requests as short calls, for tests that make many of them. Adds nothing to what the client does.

use vminit_shim::api::containerd::api::{CreateTaskRequest, StateRequest, StateResponse, Status};
use vminit_shim::api::ttrpc::{self, Code};
use vminit_shim::client::{context, ClientError, Container, Exec, Guest, Stdio, INIT};
use vminit_shim::spec;

use crate::LIMIT;

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

/// Adds a process without stdio.
pub async fn exec(guest: &Guest, id: &str, exec_id: &str, args: &[&str]) -> Result<(), ClientError> {
    let process = spec::process(args);
    guest.exec(Exec { container_id: id, exec_id, process: &process }, &Stdio::default()).await
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
