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

/// The texts are what a client of containerd reads.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    #[error("task {0} is not found")]
    NoTask(String),
    #[error("process {exec} of task {id} is not found")]
    NoProcess { id: String, exec: String },
    #[error("task {0} exists already")]
    Exists(String),
    /// Pods are for a later day: containerd asks for them only if `start` offers it.
    #[error("run {id} in the machine of {other}: a machine has one task")]
    Second { id: String, other: String },
    #[error("process {0} has finished already")]
    Finished(String),
    /// It is being started, or deleted.
    #[error("{what} task {id}: it is busy")]
    Busy { what: &'static str, id: String },
    #[error("read {path}: {source}", path = .path.display())]
    Config { path: PathBuf, source: io::Error },
    #[error("understand {path}: {source}", path = .path.display())]
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
    Rootfs(#[from] RootfsError),
    #[error("cannot {0}")]
    Holder(#[from] HolderError),
    #[error("cannot {0}")]
    Hook(#[from] HookError),
    #[error("cannot {0}")]
    Network(#[from] NetError),
    #[error("cannot {0}")]
    Machine(#[from] VmError),
    #[error("cannot {0}")]
    State(#[from] StateError),
    /// The machine runs, and its guest did not come up; `console` is the end of what it said.
    #[error("the guest did not become ready: {why}; the end of its console:\n{console}")]
    NotReady { why: String, console: String },
    /// What the guest answered, with its own code.
    #[error("{}", .0.message())]
    Guest(ttrpc::Status),
    #[error("cannot {0}")]
    Client(ClientError),
    /// The guest lives, as far as is known, and does not answer.
    #[error("get an answer of the guest to {call} within {within:?}")]
    Late { call: &'static str, within: Duration },
    #[error("the machine has ended: {0}")]
    Lost(String),
    #[error("see the end of {0} in time")]
    NoExit(String),
    /// A bug of ours: work on a thread of its own did not come to its end.
    #[error("finish a blocking step: {0}")]
    Blocking(#[from] tokio::task::JoinError),
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
