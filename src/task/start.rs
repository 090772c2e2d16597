//! Starting an init. Execs have a file of their own.

use super::container::Container;
use super::error::TaskError;
use super::gate::Input;
use super::ids::{ContainerId, ProcessId};
use super::kill::kill_init;
use super::registry::Tasks;
use super::state::Op;
use crate::events::Happening;
use crate::runc::RuncError;

impl Tasks {
    /// Starts the init, or an exec that was added; answers its pid.
    pub async fn start(&self, id: &ContainerId, who: &ProcessId) -> Result<u32, TaskError> {
        self.refuse_when_stopping()?;
        let container = self.get(id)?;
        match who {
            ProcessId::Init => start_init(&container).await,
            ProcessId::Exec(exec) => self.start_exec(&container, exec).await,
        }
    }
}

async fn start_init(container: &Container) -> Result<u32, TaskError> {
    begin(container)?;
    let started = container.runc.start().await;
    if let Err(RuncError::Deadline { .. }) = started {
        // Nobody can tell whether it runs by now. ESRCH: it ran, and has ended.
        let _ = kill_init(container).await;
    }
    let pid = ended(container, started.is_ok());
    Ok(started.map(|()| pid)?)
}

/// From here on its exit waits for the end of the start.
pub(super) fn begin(container: &Container) -> Result<(), TaskError> {
    let init = &ProcessId::Init;
    let mut processes = container.processes();
    container.advance(&mut processes.init, init, "start", Op::Start)?;
    container.feed(&mut processes, init, Input::CallBegan);
    Ok(())
}

/// One that could not be started is created as before.
pub(super) fn ended(container: &Container, started: bool) -> u32 {
    let mut processes = container.processes();
    let pid = processes.init.pid();
    let (op, event) = match started {
        true => (Op::Started, Some(Happening::Started { pid })),
        false => (Op::StartFailed, None),
    };
    container.end_start(&mut processes, &ProcessId::Init, op, event);
    pid
}
