//! Execs: from the request to a process that the guest has accepted. Owns what of their spec is for the guest.

use protobuf::MessageField;
use serde_json::Value;
use vminitd_api::containerd::api::ExecProcessRequest;
use vminitd_api::protobuf::well_known_types::any::Any;
use vminitd_api::type_url;

use super::create::relay;
use super::link::SHORT;
use super::process::Process;
use super::{TaskError, Tasks};
use crate::events::Stdio;
use crate::plan;
use crate::stdio::{Ends, Owner, StdioSpec};

/// A process to be added to a container.
#[derive(Debug, Clone)]
pub struct ExecRequest {
    pub id: String,
    pub exec_id: String,
    /// An OCI process, as JSON.
    pub process: Value,
    pub stdio: Stdio,
}

impl Tasks {
    /// Adds a process that a Start is to run.
    ///
    /// # Errors
    /// `Uri` and `Stdio` for its ends, `Guest` with the guest's words: nothing is left of it then. After a `Late` the guest
    /// may have it, and nobody can start it.
    pub async fn exec(&self, mut request: ExecRequest) -> Result<(), TaskError> {
        let entry = self.find(&request.id)?;
        let spec = {
            let Stdio { stdin, stdout, stderr, terminal } = &request.stdio;
            StdioSpec::parse(*terminal, stdin, stdout, stderr)?
        };
        plan::remove_process_labels(&mut request.process);
        let owner = Owner { namespace: &self.host.namespace, id: &request.exec_id };
        let ends = Ends::open(&spec, owner).await?;
        let (relays, [stdin, stdout, stderr]) = relay(&entry.link, &spec, ends).await?;
        let process = Any {
            type_url: type_url::OCI_PROCESS.to_owned(),
            value: request.process.to_string().into_bytes(),
            ..Default::default()
        };
        let exec = ExecProcessRequest {
            id: request.id,
            exec_id: request.exec_id.clone(),
            terminal: request.stdio.terminal,
            stdin,
            stdout,
            stderr,
            spec: MessageField::some(process),
            ..Default::default()
        };
        let task = entry.link.client.task();
        let accepted = entry.link.call("Task.Exec", SHORT, |ctx| async { task.exec(ctx, &exec).await }).await;
        match accepted {
            Ok(_) => {
                entry.container.add(&request.exec_id, Process::new(request.stdio, relays));
                entry.container.answered(&request.exec_id);
            }
            Err(_) => relays.release().await,
        }
        accepted.map(drop)
    }
}
