//! What a later `delete` must undo, on disk. Owns the folder of a container below `/run/vminit` and the file in it,
//! which is written before each thing is done; never does any of these things, and only undoes them.

mod cleanup;
mod error;
mod hook;
mod process;
mod store;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

pub use cleanup::{cleanup, Deleted};
pub use error::StateError;
pub use process::Process;
pub use store::{dir, remove};

use crate::hooks::ContainerState;
use crate::plan::Hook;

/// All there is to undo of one container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// containerd's namespace, for people who look for a container: the folder's name does not tell.
    pub namespace: String,
    /// As the `poststop` hooks shall read it, but for its status and pid; with the id and the bundle.
    pub container: ContainerState,
    /// To be set when the first `prestart` or `createRuntime` hook is about to run: without those there is nothing that
    /// a `poststop` hook has to undo.
    #[serde(default, with = "hook")]
    pub poststop: Vec<Hook>,
    /// Each as soon as it has a pid. One that is not here yet dies with the shim, by its parent-death signal.
    #[serde(default)]
    pub processes: BTreeMap<Role, Process>,
    #[serde(default)]
    pub wiring: Wiring,
    /// Of the container's init, once it is known.
    #[serde(default)]
    pub exit: Option<Exit>,
}

/// What a process is there for, in the order in which they are killed: the shim first, so that it does not answer the
/// deaths of the others, and the holder last, because its network namespace is needed until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Shim,
    Qemu,
    Vsock,
    Virtiofsd,
    /// The hook that runs now, or was the last. A DEL of CNI must not overtake the ADD.
    Hook,
    Holder,
}

/// What was put into the container's network namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wiring {
    /// The namespace, if it has a path of its own; else it is the holder's.
    pub namespace: Option<PathBuf>,
    /// Names of tap interfaces.
    pub taps: Vec<String>,
    /// Names of interfaces that got an ingress qdisc.
    pub qdiscs: Vec<String>,
}

/// How the container's init ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// As of a shell.
    pub status: u32,
    pub at: SystemTime,
}

impl Exit {
    /// The status of what was killed with its VM: 128 + SIGKILL, as of a shell.
    pub const KILLED: u32 = 137;
}

impl State {
    /// That of a container for which nothing has been done.
    pub fn new(namespace: String, container: ContainerState) -> State {
        State {
            namespace,
            container,
            poststop: Vec::new(),
            processes: BTreeMap::new(),
            wiring: Wiring::default(),
            exit: None,
        }
    }

    /// Takes down the process that has this pid now, in the file too; `dir` is the container's folder.
    ///
    /// # Errors
    /// `Process` and `Write`.
    pub fn record(&mut self, dir: &Path, role: Role, pid: u32) -> Result<(), StateError> {
        self.processes.insert(role, Process::of(pid)?);
        self.save(dir)
    }
}
