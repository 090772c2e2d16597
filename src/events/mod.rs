//! What happened, for whoever wants to know: the domain's events, their bounded log with replay, their envelope.
//!
//! Publishing never blocks and never fails.

mod envelope;
mod exchange;
mod replay;

use std::path::PathBuf;
use std::time::SystemTime;

pub use envelope::timestamp;
#[cfg(test)]
pub use exchange::Subscription;
pub use exchange::{CutOff, Exchange};

/// A file system that was assembled for a container, as its Create named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootfsMount {
    pub kind: String,
    pub source: String,
    pub target: String,
    pub options: Vec<String>,
}

/// Where a process's stdio goes, as its Create or Exec named it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StdioUris {
    pub stdin: String,
    pub stdout: String,
    pub stderr: String,
    pub terminal: bool,
}

/// What happened to a container or one of its processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    Created {
        bundle: PathBuf,
        rootfs: Vec<RootfsMount>,
        stdio: StdioUris,
        pid: u32,
    },
    Started {
        pid: u32,
    },
    ExecAdded {
        exec_id: String,
    },
    ExecStarted {
        exec_id: String,
        pid: u32,
    },
    Paused,
    Resumed,
    /// A checkpoint was written to `path`.
    Checkpointed {
        path: PathBuf,
    },
    /// The kernel killed something in the container because it had used up its memory.
    Oom,
    /// `id` is the container's for its init, else the exec's.
    Exited {
        id: String,
        pid: u32,
        status: u32,
        at: SystemTime,
    },
    Deleted {
        pid: u32,
        status: u32,
        at: Option<SystemTime>,
    },
}

/// One event, as it goes into the exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When it was published.
    pub at: SystemTime,
    /// containerd's namespace of the container.
    pub namespace: String,
    pub container: String,
    pub what: Happening,
}

impl Event {
    /// Exits are what a host cannot do without: they are the last to be dropped when the log is full.
    fn is_exit(&self) -> bool {
        matches!(self.what, Happening::Exited { .. })
    }
}
