//! What a container may use, what it has used, and who is in it.

use std::io;

use super::container::Entry;
use super::error::TaskError;
use super::ids::{ContainerId, ProcessId};
use super::registry::Tasks;
use super::state::State;
use super::{Resources, Stats};
use crate::blocking;

impl Tasks {
    /// Gives the container other limits.
    pub async fn update(&self, id: &ContainerId, resources: &Resources) -> Result<(), TaskError> {
        let container = self.get(id)?;
        container.require(State::takes_limits, "update")?;
        let updated = container.runc.update(resources).await;
        if updated.is_err() {
            // If it has ended meanwhile, that is the reason.
            container.require(State::takes_limits, "update")?;
        }
        Ok(updated?)
    }

    /// What the container has used up to now.
    pub async fn stats(&self, id: &ContainerId) -> Result<Stats, TaskError> {
        let container = self.get(id)?;
        let cgroup = container.cgroup.clone().ok_or(TaskError::NoCgroup)?;
        // Each file takes its time, if many are asked for; but none is on a disk.
        let read = blocking::run("reading a cgroup", move || cgroup.stats()).await?;
        read.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => TaskError::CgroupGone(id.clone()),
            _ => TaskError::Stats { container: id.clone(), source },
        })
    }

    /// Every process of the container, with its exec id where it is an exec's. None once it has ended.
    pub async fn pids(&self, id: &ContainerId) -> Result<Vec<(u32, Option<String>)>, TaskError> {
        let container = self.get(id)?;
        if container.snapshot(&ProcessId::Init)?.reaped.is_some() {
            return Ok(Vec::new());
        }
        let pids = container.runc.ps().await;
        let processes = container.processes();
        let pids = match pids {
            Err(_) if processes.init.state.reaped().is_some() => Vec::new(),
            other => other?,
        };
        let runs = |exec: &Entry| exec.state.reaped().is_none();
        let exec_of = |pid| processes.execs.iter().find(|(_, exec)| exec.pid() == pid && runs(exec));
        Ok(pids.into_iter().map(|pid| (pid, exec_of(pid).map(|(exec, _)| exec.to_string()))).collect())
    }
}
