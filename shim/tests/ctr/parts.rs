//! The processes that a container is made of on the host: finding each by what the shim has written down, and killing
//! it.

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use vminit_shim::state::{dir, Role, State};

use crate::until::until;
use crate::world::{ADDRESS, NAMESPACE, SOON};

/// Waits until the container has this part.
pub async fn part(id: &str, role: Role) -> u32 {
    let found = async || recorded(id, role).ok_or_else(|| format!("{id} has no {role:?}"));
    until(SOON, found).await
}

/// What the container has of this part now.
pub fn recorded(id: &str, role: Role) -> Option<u32> {
    let state = State::load(&dir(ADDRESS, NAMESPACE, id)).ok()??;
    let process = state.processes.get(&role)?;
    process.exists().is_ok_and(|exists| exists).then_some(process.pid)
}

/// Kills a process; one that has gone meanwhile does not matter.
pub fn kill_hard(pid: u32) {
    let _ = kill(Pid::from_raw(pid.try_into().expect("a pid")), Signal::SIGKILL);
}
