//! The record of one container on disk, shared by those who add to it. Owns that each change is on disk before it is
//! acted on; never undoes anything.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::TaskError;
use crate::state::{self, Role, State, StateError};

/// A record and the folder it is in.
#[derive(Debug)]
pub(super) struct Record {
    dir: PathBuf,
    state: Mutex<State>,
}

impl Record {
    /// Begins one, on disk too.
    ///
    /// # Errors
    /// `Left` if there is a record: what it names has to be undone first, or it never is. `State`.
    pub fn begin(dir: PathBuf, state: State) -> Result<Record, TaskError> {
        if State::load(&dir)?.is_some() {
            return Err(TaskError::Left(dir));
        }
        state::remove(&dir)?;
        state.save(&dir)?;
        Ok(Record { dir, state: Mutex::new(state) })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Changes it, and returns when another process can read that. Blocks for a small file on a tmpfs.
    pub fn change(&self, change: impl FnOnce(&mut State)) -> Result<(), StateError> {
        let mut state = self.lock();
        change(&mut state);
        state.save(&self.dir)
    }

    /// Takes down a process that was just started. One that cannot be taken down is gone, or goes with the shim.
    pub fn began(&self, role: Role, pid: u32) {
        if let Err(error) = self.lock().record(&self.dir, role, pid) {
            tracing::warn!(?role, pid, "cannot {error}");
        }
    }

    /// As it is now.
    pub fn state(&self) -> State {
        self.lock().clone()
    }

    /// No code panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
