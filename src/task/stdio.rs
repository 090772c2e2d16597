//! The stdio of processes that is reached by calls.

use super::error::TaskError;
use super::ids::{ContainerId, ProcessId};
use super::registry::Tasks;
use crate::io::{Outlet, Subscription};

impl Tasks {
    /// Writes to a stdin, behind what was written before, and waits until its pipe has taken all of it.
    ///
    /// What was queued is written even if the future is dropped.
    pub async fn write_stdin(
        &self,
        id: &ContainerId,
        who: &ProcessId,
        data: Vec<u8>,
    ) -> Result<(), TaskError> {
        let failed = |source| TaskError::Stdin { process: who.clone(), source };
        let written = self.get(id)?.with(who, |entry| {
            if entry.state.reaped().is_some() {
                return Err(TaskError::ProcessGone(who.clone()));
            }
            let stdin = entry.served.stdin.as_ref().ok_or_else(|| not_served("stdin", who))?;
            Ok(stdin.write(data))
        })??;
        written.await.map_err(failed)
    }

    /// Ends a stdin behind what was written before. Once more, or of a process that has gone, changes nothing.
    pub fn close_stdin(&self, id: &ContainerId, who: &ProcessId) -> Result<(), TaskError> {
        self.get(id)?.with(who, |entry| {
            let stdin = entry.served.stdin.as_ref().ok_or_else(|| not_served("stdin", who))?;
            stdin.close();
            Ok(())
        })?
    }

    /// Subscribes to an output.
    pub fn subscribe(
        &self,
        id: &ContainerId,
        who: &ProcessId,
        outlet: Outlet,
    ) -> Result<Subscription, TaskError> {
        self.get(id)?.with(who, |entry| {
            let output = entry.served.output(outlet).ok_or_else(|| not_served(outlet.name(), who))?;
            Ok(output.subscribe())
        })?
    }
}

fn not_served(end: &'static str, who: &ProcessId) -> TaskError {
    TaskError::NotServed { end, process: who.clone() }
}
