//! From a created container to a running one: its network first, because clients fill the namespace between Create and
//! Start, and then its init. Owns the order.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use vminitd_api::containerd::api::StartRequest;
use vminitd_api::network::ApplyRequest;

use super::ground::{Ground, Wiring};
use super::link::{LONGEST, SHORT};
use super::{Entry, TaskError};
use crate::client::INIT;
use crate::net::{self, Survey};
use crate::plan::Network;

/// The links may take as long as this to appear; it is below the call's limit.
const LINKS: Duration = Duration::from_secs(10);

impl Entry {
    /// Starts the init; gives the pid that stands for it.
    ///
    /// # Errors
    /// `Network`, `Machine` and `Unwired` before anything runs; what was plugged into the machine stays there, so that all
    /// that is left is to delete the task. `Guest`, and others.
    pub(super) async fn start_init(&self) -> Result<u32, TaskError> {
        let mut ground = self.ground.try_lock().map_err(|_| self.busy("start"))?;
        if ground.wiring == Wiring::Failed {
            return Err(TaskError::Unwired(self.container.id().to_owned()));
        }
        if ground.wiring == Wiring::None {
            ground.wiring = Wiring::Failed;
            if let Some(limit) = ground.unreachable_resolver().await {
                tracing::warn!(id = self.container.id(), "{limit}");
            }
            match &ground.plan.network {
                Network::Host => self.user_network(&ground.plan.net_sysctls).await?,
                Network::New | Network::At(_) => self.network(&mut ground).await?,
            }
            ground.wiring = Wiring::Done;
        }
        let begun = Instant::now();
        let pid = self.guest_start(INIT).await?;
        self.timing.log(self.container.id(), begun.elapsed());
        tracing::info!(id = self.container.id(), pid, "started");
        ground.poststart_hooks().await;
        Ok(pid)
    }

    /// Starts the init or an exec in the guest; gives the pid to report.
    pub(super) async fn guest_start(&self, exec_id: &str) -> Result<u32, TaskError> {
        let request =
            StartRequest { id: self.container.id().into(), exec_id: exec_id.into(), ..Default::default() };
        let task = self.link.client.task();
        let answer =
            self.link.call("Task.Start", LONGEST, |ctx| async { task.start(ctx, &request).await }).await?;
        Ok(self.container.started(exec_id, answer.pid))
    }

    /// Joins the interfaces that the namespace has by now to NICs of the machine.
    async fn network(&self, ground: &mut Ground) -> Result<(), TaskError> {
        let Some(namespace) = ground.network() else { return Ok(()) };
        let survey = net::survey(&namespace).await?;
        for what in survey.left_out() {
            tracing::warn!(id = self.container.id(), "{what}");
        }
        let wired = self.wire(ground, &survey).await;
        if wired.is_err() {
            ground.unwire().await;
        }
        wired
    }

    async fn wire(&self, ground: &Ground, survey: &Survey) -> Result<(), TaskError> {
        let apply = survey.apply(&ground.plan.net_sysctls);
        if !survey.is_empty() {
            let (taps, qdiscs) = survey.wiring();
            ground.record.change(|state| (state.wiring.taps, state.wiring.qdiscs) = (taps, qdiscs))?;
            self.machine.plug_taps(survey.connect().await?).await?;
        }
        self.apply(apply).await
    }

    /// The host's network by QEMU's user-mode networking. Nothing can reach the container from outside.
    async fn user_network(&self, sysctls: &BTreeMap<String, String>) -> Result<(), TaskError> {
        tracing::info!(
            id = self.container.id(),
            "host networking is user-mode networking in a microVM: no connections come in, and pings do not go out"
        );
        let (nic, apply) = net::user_mode(sysctls);
        self.machine.plug_user(&nic).await?;
        self.apply(apply).await
    }

    async fn apply(&self, mut request: ApplyRequest) -> Result<(), TaskError> {
        request.link_wait_ms = u32::try_from(LINKS.as_millis()).expect("it is a constant");
        let network = self.link.client.network();
        self.link.call("Network.Apply", SHORT, |ctx| async { network.apply(ctx, &request).await }).await?;
        Ok(())
    }
}
