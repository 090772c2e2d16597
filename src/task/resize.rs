//! The size of a process's terminal.

use super::container::Entry;
use super::error::TaskError;
use super::ids::{ContainerId, ProcessId};
use super::registry::Tasks;
use crate::sys::pty::WindowSize;

impl Tasks {
    /// Sets the size of a process's terminal. One that is not there yet, as the exec was not started, gets it later.
    /// Nothing is done for a process without a terminal. An exec that has ended is refused.
    pub fn resize(&self, id: &ContainerId, who: &ProcessId, size: WindowSize) -> Result<(), TaskError> {
        self.get(id)?.with(who, |entry| entry.resize(who, size))?
    }
}

impl Entry {
    fn resize(&mut self, who: &ProcessId, size: WindowSize) -> Result<(), TaskError> {
        if *who != ProcessId::Init && !self.state.takes_size() {
            return Err(TaskError::WrongState {
                op: "resize",
                process: who.clone(),
                state: self.state.name(),
            });
        }
        if self.uris.terminal {
            self.window_size = Some(size);
        }
        self.apply_window_size(who)
    }

    /// Gives the terminal, once it is there, the size that was asked for last.
    pub fn apply_window_size(&self, who: &ProcessId) -> Result<(), TaskError> {
        let (Some(relays), Some(size)) = (&self.relays, self.window_size) else { return Ok(()) };
        relays.resize(size).map_err(|source| TaskError::Resize { process: who.clone(), source })
    }
}
