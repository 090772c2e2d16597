//! The steps of a container's life as one call each, for the demo and the tests. Owns the counter of stream ids; adds
//! no policy to what the guest does.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use protobuf::well_known_types::any::Any;
use protobuf::MessageField;
use serde_json::Value;
use vminitd_api::bundle;
use vminitd_api::containerd::api::{
    CreateTaskRequest, DeleteRequest, ExecProcessRequest, KillRequest, Mount, ShutdownRequest, StartRequest,
    WaitRequest,
};
use vminitd_api::ttrpc::context::Context;
use vminitd_api::{system_time, type_url};

use super::{context, Client, ClientError, Endpoint, Stdio, Stream, Streams, INIT};

/// A request of the convenience calls may take so long; an emulated guest is slow, a dead one must not hang a test.
const CALL: Duration = Duration::from_secs(120);
/// The namespace the convenience calls name.
const NAMESPACE: &str = "default";

/// A container to be created.
#[derive(Debug, Clone, Copy)]
pub struct Container<'a> {
    pub id: &'a str,
    /// `config.json`.
    pub config: &'a Value,
    /// Mounts that make its root, in order. None: the bundle's empty `rootfs/` is used.
    pub rootfs: &'a [Mount],
}

/// A process to be added to a running container.
#[derive(Debug, Clone, Copy)]
pub struct Exec<'a> {
    pub container_id: &'a str,
    pub exec_id: &'a str,
    /// An OCI process, as `spec::process` makes it.
    pub process: &'a Value,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code, or 128 + the signal that killed it.
    pub status: u32,
    /// By the guest's clock.
    pub at: SystemTime,
}

/// A process that ran from its creation to its deletion.
#[derive(Debug)]
pub struct Finished {
    pub pid: u32,
    pub exit: Exit,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

/// A guest with both its ports, and one connection to it.
pub struct Guest {
    pub rpc: Endpoint,
    pub streams: Streams,
    pub client: Client,
    next_stream: AtomicU32,
}

impl Guest {
    /// Waits until the guest answers on `rpc`, at most `within`.
    ///
    /// # Errors
    /// As [`Client::connect_until`].
    pub async fn connect(rpc: Endpoint, stream: Endpoint, within: Duration) -> Result<Guest, ClientError> {
        let client = Client::connect_until(&rpc, within).await?;
        Ok(Guest { rpc, streams: Streams { endpoint: stream }, client, next_stream: AtomicU32::new(1) })
    }

    /// Opens stdin (if wanted), stdout and stderr, in this order, under fresh ids.
    ///
    /// # Errors
    /// `Stream`.
    pub async fn stdio(&self, with_stdin: bool) -> Result<Stdio, ClientError> {
        let stdin = if with_stdin { Some(self.stream().await?) } else { None };
        Ok(Stdio { stdin, stdout: Some(self.stream().await?), stderr: Some(self.stream().await?) })
    }

    async fn stream(&self) -> Result<Stream, ClientError> {
        let id = self.next_stream.fetch_add(1, Ordering::Relaxed);
        let socket = self.streams.open(id).await.map_err(|source| ClientError::Stream { id, source })?;
        Ok(Stream { uri: Streams::uri(id), socket })
    }

    /// Makes a bundle that holds only `config.json`; gives its path in the guest.
    ///
    /// # Errors
    /// `Rpc`, as for every call below.
    pub async fn bundle(&self, id: &str, config: &Value) -> Result<String, ClientError> {
        let mut request = bundle::CreateRequest { id: id.into(), ..Default::default() };
        request.files.insert("config.json".into(), config.to_string().into_bytes());
        let reply = self.client.bundle().create(call(), &request).await;
        Ok(reply.map_err(ClientError::rpc("Bundle.Create"))?.bundle)
    }

    /// Makes the bundle and the container in it; gives the pid of its init.
    pub async fn create(&self, container: Container<'_>, stdio: &Stdio) -> Result<u32, ClientError> {
        let [stdin, stdout, stderr] = stdio.uris();
        let request = CreateTaskRequest {
            id: container.id.into(),
            bundle: self.bundle(container.id, container.config).await?,
            rootfs: container.rootfs.to_vec(),
            stdin,
            stdout,
            stderr,
            ..Default::default()
        };
        let reply = self.client.task().create(call(), &request).await;
        Ok(reply.map_err(ClientError::rpc("Task.Create"))?.pid)
    }

    /// Adds a process, which then waits to be started.
    pub async fn exec(&self, exec: Exec<'_>, stdio: &Stdio) -> Result<(), ClientError> {
        let [stdin, stdout, stderr] = stdio.uris();
        let spec = Any {
            type_url: type_url::OCI_PROCESS.into(),
            value: exec.process.to_string().into_bytes(),
            ..Default::default()
        };
        let request = ExecProcessRequest {
            id: exec.container_id.into(),
            exec_id: exec.exec_id.into(),
            spec: MessageField::some(spec),
            stdin,
            stdout,
            stderr,
            ..Default::default()
        };
        let reply = self.client.task().exec(call(), &request).await;
        reply.map(drop).map_err(ClientError::rpc("Task.Exec"))
    }

    /// Starts the init ([`INIT`]) or an exec; gives its pid.
    pub async fn start(&self, id: &str, exec_id: &str) -> Result<u32, ClientError> {
        let request = StartRequest { id: id.into(), exec_id: exec_id.into(), ..Default::default() };
        let reply = self.client.task().start(call(), &request).await;
        Ok(reply.map_err(ClientError::rpc("Task.Start"))?.pid)
    }

    /// Waits until the process has exited.
    pub async fn wait(&self, id: &str, exec_id: &str) -> Result<Exit, ClientError> {
        let request = WaitRequest { id: id.into(), exec_id: exec_id.into(), ..Default::default() };
        let reply = self.client.task().wait(call(), &request).await.map_err(ClientError::rpc("Task.Wait"))?;
        Ok(Exit { status: reply.exit_status, at: system_time(&reply.exited_at) })
    }

    /// Sends `signal` to the process.
    pub async fn kill(&self, id: &str, exec_id: &str, signal: u32) -> Result<(), ClientError> {
        let request = KillRequest { id: id.into(), exec_id: exec_id.into(), signal, ..Default::default() };
        self.client.task().kill(call(), &request).await.map(drop).map_err(ClientError::rpc("Task.Kill"))
    }

    /// Forgets the process, which must have exited; with [`INIT`], the container.
    pub async fn delete(&self, id: &str, exec_id: &str) -> Result<Exit, ClientError> {
        let request = DeleteRequest { id: id.into(), exec_id: exec_id.into(), ..Default::default() };
        let reply =
            self.client.task().delete(call(), &request).await.map_err(ClientError::rpc("Task.Delete"))?;
        Ok(Exit { status: reply.exit_status, at: system_time(&reply.exited_at) })
    }

    /// Asks the guest to stop; it does if no container is left.
    pub async fn shutdown(&self) -> Result<(), ClientError> {
        let reply = self.client.task().shutdown(call(), &ShutdownRequest::new()).await;
        reply.map(drop).map_err(ClientError::rpc("Task.Shutdown"))
    }

    /// Runs a container from its creation to its deletion, without stdin.
    pub async fn run(&self, container: Container<'_>) -> Result<Finished, ClientError> {
        let stdio = self.stdio(false).await?;
        self.create(container, &stdio).await?;
        self.finish(container.id, INIT, stdio).await
    }

    /// Runs a process in a running container from its creation to its deletion, without stdin.
    pub async fn run_exec(&self, exec: Exec<'_>) -> Result<Finished, ClientError> {
        let stdio = self.stdio(false).await?;
        self.exec(exec, &stdio).await?;
        self.finish(exec.container_id, exec.exec_id, stdio).await
    }

    async fn finish(&self, id: &str, exec_id: &str, stdio: Stdio) -> Result<Finished, ClientError> {
        let output = stdio.collect();
        let pid = self.start(id, exec_id).await?;
        let exit = self.wait(id, exec_id).await?;
        self.delete(id, exec_id).await?;
        let (stdout, stderr) = output.finish().await.map_err(ClientError::Output)?;
        Ok(Finished { pid, exit, stdout, stderr })
    }
}

fn call() -> Context {
    context(CALL, NAMESPACE)
}
