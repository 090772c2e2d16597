//! What one container has of the host besides its machine: its record, its files, the process that stands for it, its hooks
//! and its network. Owns the order in which all that is taken away; never speaks to the guest.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::record::Record;
use super::TaskError;
use crate::holder::Holder;
use crate::hooks::{self, ContainerState, Status};
use crate::net;
use crate::plan::{Hook, Plan};
use crate::rootfs::Staged;
use crate::state::{self, Role, State};

/// Where a container reads whom to ask for names.
const RESOLVER: &str = "/etc/resolv.conf";

/// The ground that a container stands on.
#[derive(Debug)]
pub(super) struct Ground {
    pub plan: Plan,
    pub record: Arc<Record>,
    pub staged: Option<Staged>,
    pub holder: Option<Holder>,
    pub wiring: Wiring,
}

/// Whether the machine has the container's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wiring {
    None,
    /// NICs may be there, and not what they need.
    Failed,
    Done,
}

impl Ground {
    /// What of the container's resolver cannot work, in a line for the log.
    pub async fn unreachable_resolver(&self) -> Option<String> {
        let file = self.plan.volumes.iter().find(|volume| volume.destination == RESOLVER)?;
        net::unreachable_resolver(&tokio::fs::read_to_string(&file.source).await.ok()?)
    }

    /// The container's network namespace, for as long as the holder is there.
    pub fn network(&self) -> Option<PathBuf> {
        self.holder.as_ref().map(|holder| format!("/proc/{}/ns/net", holder.pid()).into())
    }

    /// Runs the hooks of Create. From now on those of `poststop` have something to undo.
    ///
    /// # Errors
    /// `Hook` of the first that fails, and `State`.
    pub async fn create_hooks(&self) -> Result<(), TaskError> {
        let hooks = &self.plan.hooks;
        self.record.change(|state| state.poststop.clone_from(&hooks.poststop))?;
        let state = self.hook_state(Status::Creating);
        for stage in [&hooks.prestart, &hooks.create_runtime] {
            self.run(stage, &state).await?;
        }
        Ok(())
    }

    async fn run(&self, stage: &[Hook], state: &ContainerState) -> Result<(), TaskError> {
        Ok(hooks::run(stage, state, |pid| self.record.began(Role::Hook, pid)).await?)
    }

    /// Runs the hooks that come after the start. Their failures are logged.
    pub async fn poststart_hooks(&self) {
        let state = self.hook_state(Status::Running);
        hooks::run_all(&self.plan.hooks.poststart, &state, |pid| self.record.began(Role::Hook, pid)).await;
    }

    fn hook_state(&self, status: Status) -> ContainerState {
        let pid = self.holder.as_ref().map(Holder::pid);
        ContainerState { status, pid, ..self.record.state().container }
    }

    /// Takes all away, when the machine is gone; what can be, even if something cannot. May be called again then.
    ///
    /// # Errors
    /// The first of what went wrong.
    pub async fn take_down(&mut self) -> Result<(), TaskError> {
        self.unwire().await;
        let held = match self.holder.take() {
            Some(holder) => holder.stop().await.map_err(TaskError::from),
            None => Ok(()),
        };
        let unmounted = self.unmount().await;
        let state = self.record.state();
        let hooked = state
            .poststop(self.record.dir(), |pid| self.record.began(Role::Hook, pid))
            .await
            .map_err(TaskError::from);
        held.and(unmounted).and(hooked)?;
        Ok(state::remove(self.record.dir())?)
    }

    /// On a thread that may wait for disks.
    async fn unmount(&mut self) -> Result<(), TaskError> {
        let Some(mut staged) = self.staged.take() else { return Ok(()) };
        let unmount = move || {
            let unmounted = staged.unmount();
            (staged, unmounted)
        };
        let (staged, unmounted) = spawn_blocking(unmount).await?;
        if unmounted.is_err() {
            self.staged = Some(staged);
        }
        Ok(unmounted?)
    }

    /// Takes the taps and redirects away. What cannot be goes with the namespace, or is found by the next one's survey.
    pub async fn unwire(&mut self) {
        let wiring = self.record.state().wiring;
        // One that has a path outlives its holder.
        let Some(namespace) = wiring.namespace.clone().or_else(|| self.network()) else { return };
        let unwired = net::unwire(&namespace, &wiring).await.map_err(TaskError::from);
        // By their names they would be somebody else's the next time, in a namespace that others use too.
        let forget = |state: &mut State| {
            state.wiring = state::Wiring { namespace: wiring.namespace, ..Default::default() }
        };
        if let Err(error) = unwired.and_then(|()| Ok(self.record.change(forget)?)) {
            tracing::warn!(namespace = %namespace.display(), "{error}");
        }
    }
}
