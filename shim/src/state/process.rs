//! A process that can still be told from all others later: by its pid and its start. Owns the killing of such a one;
//! never signals a process that has only inherited the number.

use std::io::{self, ErrorKind};
use std::time::Duration;
use std::{fs, process};

use serde::{Deserialize, Serialize};
use tokio::time::{timeout, timeout_at, Instant};

use super::{Role, State, StateError};
use crate::sys::Pidfd;

/// Of the fields behind the name, which is the second and may have anything in it, `starttime` is this one: the 22nd of
/// all (proc_pid_stat(5)).
const START_FIELD: usize = 22 - 3;

/// A process of this boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: u32,
    /// Clock ticks from the boot to its start. No number is given away twice within a tick.
    pub start: u64,
}

impl Process {
    /// The process that has this number now, which the caller knows to be the one it means.
    ///
    /// # Errors
    /// `Process`, if there is none.
    pub fn of(pid: u32) -> Result<Process, StateError> {
        let start = start_of(pid).and_then(|start| start.ok_or(ErrorKind::NotFound.into()));
        start.map(|start| Process { pid, start }).map_err(|source| StateError::Process { pid, source })
    }

    /// Whether it has not been reaped yet.
    ///
    /// # Errors
    /// `Process`, if that cannot be told.
    pub fn exists(&self) -> Result<bool, StateError> {
        let start = start_of(self.pid).map_err(|source| StateError::Process { pid: self.pid, source })?;
        Ok(start == Some(self.start))
    }

    /// Its descriptor; none if it is gone.
    fn open(&self) -> Result<Option<Pidfd>, StateError> {
        let pidfd = match Pidfd::open(self.pid) {
            Ok(pidfd) => pidfd,
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
            Err(source) => return Err(StateError::Process { pid: self.pid, source }),
        };
        // Only now: one that still has the number had it when the descriptor was opened.
        Ok(self.exists()?.then_some(pidfd))
    }
}

impl State {
    /// Kills the recorded processes of these roles, in this order, and waits for the end of each of them; not for their
    /// reaping, which is for their parents. Ourselves we spare.
    ///
    /// # Errors
    /// `Process`, `Kill` and `Alive` of the first with which it went wrong; all that could be killed have been.
    pub async fn kill_recorded(&self, roles: &[Role], within: Duration) -> Result<(), StateError> {
        let deadline = Instant::now() + within;
        let recorded = roles.iter().filter_map(|role| self.processes.get(role));
        let others = recorded.filter(|other| other.pid != process::id());
        let killed: Vec<_> = others.map(|other| (other.pid, kill(other))).collect();
        let mut outcome = Ok(());
        for (pid, killed) in killed {
            let ended = match killed {
                Ok(None) => Ok(()),
                Ok(Some(pidfd)) => {
                    timeout_at(deadline, pidfd.ended()).await.map_err(|_| StateError::Alive { pid, within })
                }
                Err(error) => Err(error),
            };
            outcome = outcome.and(ended);
        }
        outcome
    }

    /// Waits for the end of the recorded process of this role, if there is one.
    ///
    /// # Errors
    /// `Process` and `Alive`.
    pub async fn wait_recorded(&self, role: Role, within: Duration) -> Result<(), StateError> {
        let Some(process) = self.processes.get(&role) else { return Ok(()) };
        let Some(pidfd) = process.open()? else { return Ok(()) };
        let late = StateError::Alive { pid: process.pid, within };
        timeout(within, pidfd.ended()).await.map_err(|_| late)
    }
}

fn kill(process: &Process) -> Result<Option<Pidfd>, StateError> {
    let pidfd = process.open()?;
    if let Some(pidfd) = &pidfd {
        pidfd.kill().map_err(|source| StateError::Kill { pid: process.pid, source })?;
    }
    Ok(pidfd)
}

/// When the process with this number was started; none if there is no such process.
fn start_of(pid: u32) -> io::Result<Option<u64>> {
    let stat = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        // The second is what reading says of a process that was reaped after opening.
        Err(e) if e.kind() == ErrorKind::NotFound || e.raw_os_error() == Some(libc::ESRCH) => {
            return Ok(None)
        }
        Err(e) => return Err(e),
    };
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
    let start = fields.split_whitespace().nth(START_FIELD).and_then(|field| field.parse().ok());
    start.map(Some).ok_or(ErrorKind::InvalidData.into())
}
