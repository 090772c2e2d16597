//! Why something asked of a task was not done. Owns no code of the wire: `service` gives each its own.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use vminitd_api::ttrpc;

use crate::client::ClientError;
use crate::config::AnnotationError;
use crate::holder::HolderError;
use crate::hooks::HookError;
use crate::net::NetError;
use crate::plan::Refusal;
use crate::rootfs::RootfsError;
use crate::state::StateError;
use crate::stdio::{OpenError, UriError};
use crate::vm::VmError;

/// The texts are what a client of containerd reads: each is a whole one, and follows no "cannot".
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    #[error("task {0} is not found")]
    NoTask(String),
    #[error("process {exec} of task {id} is not found")]
    NoProcess { id: String, exec: String },
    #[error("task {0} exists already")]
    Exists(String),
    /// Pods are for a later day: containerd asks for them only if `start` offers it.
    #[error("cannot run {id} in the machine of {other}: a machine has one task")]
    Second { id: String, other: String },
    #[error("cannot create a task that nobody waits for")]
    Abandoned,
    #[error("process {0} has finished already")]
    Finished(String),
    #[error("cannot {what} task {id} while it is being started or deleted")]
    Busy { what: &'static str, id: String },
    #[error("cannot read {path}: {source}", path = .path.display())]
    Config { path: PathBuf, source: io::Error },
    #[error("cannot understand {path}: {source}", path = .path.display())]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("{0}")]
    Annotation(#[from] AnnotationError),
    #[error("{0}")]
    Uri(#[from] UriError),
    #[error("cannot {0}")]
    Stdio(#[from] OpenError),
    #[error("cannot {0}")]
    Rootfs(RootfsError),
    #[error("cannot {0}")]
    Holder(#[from] HolderError),
    #[error("cannot {0}")]
    Hook(#[from] HookError),
    #[error("cannot {0}")]
    Network(#[from] NetError),
    /// Some of the NICs may be in its machine.
    #[error("cannot start task {0}: its network failed before, and all that is left is to delete it")]
    Unwired(String),
    #[error("cannot {0}")]
    Machine(#[from] VmError),
    #[error("cannot {0}")]
    State(#[from] StateError),
    /// Its hooks have not run, or its processes may live.
    #[error("cannot begin in {path}: an earlier task of this id was not cleaned up", path = .0.display())]
    Left(PathBuf),
    /// The machine runs, and its guest did not come up; `console` is the end of what it said.
    #[error("the guest did not become ready: {why}; the end of its console:\n{console}")]
    NotReady { why: String, console: String },
    /// What the guest answered, with its own code.
    #[error("{}", .0.message())]
    Guest(ttrpc::Status),
    #[error("cannot {0}")]
    Client(ClientError),
    /// The guest lives, as far as is known, and does not answer.
    #[error("cannot get an answer of the guest to {call} within {within:?}")]
    Late { call: &'static str, within: Duration },
    #[error("the machine has ended: {0}")]
    Lost(String),
    #[error("cannot see the end of {0} in time")]
    NoExit(String),
    /// A bug of ours: work on a thread of its own did not come to its end.
    #[error("cannot finish a blocking step: {0}")]
    Blocking(#[from] tokio::task::JoinError),
}

impl From<RootfsError> for TaskError {
    /// What is refused is so whoever finds it.
    fn from(error: RootfsError) -> TaskError {
        match error {
            RootfsError::Refused(refusal) => TaskError::Refused(refusal),
            other => TaskError::Rootfs(other),
        }
    }
}

impl From<ClientError> for TaskError {
    /// An answer of the guest keeps its code and its words.
    fn from(error: ClientError) -> TaskError {
        match error {
            ClientError::Rpc { source: ttrpc::Error::RpcStatus(status), .. } => TaskError::Guest(status),
            other => TaskError::Client(other),
        }
    }
}
