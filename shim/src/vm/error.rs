//! Why a virtual machine could not be launched, watched or asked.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::Part;

/// Why a [`Vm`](super::Vm) did not do what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// A file that the launch needs is not there.
    #[error("find the {what} at {}", path.display())]
    Missing { what: &'static str, path: PathBuf },
    /// Such a file is there, and does not open.
    #[error("open the {what} {}: {source}", path.display())]
    Open { what: &'static str, path: PathBuf, source: io::Error },
    /// The runtime folder, or a file in it, cannot be used.
    #[error("use {}: {source}", path.display())]
    Dir { path: PathBuf, source: io::Error },
    /// The path of a Unix socket has no room for so many bytes (unix(7)).
    #[error("use {}: a socket in it has too long a path", .0.display())]
    PathTooLong(PathBuf),
    /// By its mode, the user that QEMU is to run as may not read the file.
    #[error("boot {}: its mode must let everyone read it", path.display())]
    Unreadable { path: PathBuf },
    /// The program is missing or may not be run.
    #[error("start {}: {source}", part.name())]
    Start { part: Part, source: io::Error },
    /// The program ended before it served; `log` is the end of what it said.
    #[error("keep {} running: it {status}: {log}", part.name())]
    Ended { part: Part, status: String, log: String },
    /// The machine monitor did not take or answer a command.
    #[error("ask QEMU to {command}: {reason}")]
    Qmp { command: String, reason: String },
    /// What was awaited did not come in time.
    #[error("see {what} within {within:?}")]
    Timeout { what: String, within: Duration },
    /// The console ended, or there is none, so `phase` will never be seen.
    #[error("see phase {phase}: the console has ended")]
    NoConsole { phase: String },
}

impl VmError {
    /// The same, with what another part said added to what the ended one did.
    pub(super) fn quoting(mut self, other: Part, said: &str) -> VmError {
        if let VmError::Ended { log, .. } = &mut self {
            *log = format!("{log}; {}: {said}", other.name());
        }
        self
    }
}
