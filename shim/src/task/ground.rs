//! What one container has of the host besides its machine: its record, its files, the process that stands for it, its hooks
//! and its network. Owns the order in which all that is taken away; never speaks to the guest.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use super::record::Record;
use super::TaskError;
use crate::holder::Holder;
use crate::hooks::{self, ContainerState, Status};
use crate::net;
use crate::plan::{Hook, Plan};
use crate::rootfs::Staged;
use crate::state::{self, Role};

/// The ground that a container stands on.
#[derive(Debug)]
pub(super) struct Ground {
    pub plan: Plan,
    pub record: Arc<Record>,
    pub staged: Option<Staged>,
    pub holder: Option<Holder>,
    /// Whether its machine has its network.
    pub wired: bool,
}

impl Ground {
    /// What of the container's network cannot work, in lines for the log. Blocks for a small file of the bundle's client.
    pub fn network_limits(&self) -> Option<String> {
        let resolver = self.plan.volumes.iter().find(|volume| volume.destination == "/etc/resolv.conf")?;
        net::unreachable_resolver(&fs::read_to_string(&resolver.source).ok()?)
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
        if hooks.prestart.is_empty() && hooks.create_runtime.is_empty() {
            return Ok(());
        }
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
        let unmounted = match self.staged.as_mut() {
            Some(staged) => staged.unmount().map_err(TaskError::from),
            None => Ok(()),
        };
        let state = self.record.state();
        let hooked = state.poststop(self.record.dir()).await.map_err(TaskError::from);
        held.and(unmounted).and(hooked)?;
        Ok(state::remove(self.record.dir())?)
    }

    /// Takes the taps and redirects away. What cannot be goes with the namespace, or is found by the next one's survey.
    pub async fn unwire(&mut self) {
        let wiring = self.record.state().wiring;
        // One that has a path outlives its holder.
        let Some(namespace) = wiring.namespace.clone().or_else(|| self.network()) else { return };
        if let Err(error) = net::unwire(&namespace, &wiring).await {
            tracing::warn!(namespace = %namespace.display(), "cannot {error}");
        }
    }
}
