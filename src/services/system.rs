//! The System service.

use std::time::Duration;

use async_trait::async_trait;
use protobuf::well_known_types::empty::Empty;
use tokio::sync::{mpsc, oneshot};
use ttrpc::r#async::TtrpcContext;
use vminitd_api::system::{
    BootTime, FreezeFilesystemsResponse, InfoResponse, OfflineCPURequest, OfflineMemoryRequest,
    OnlineCPURequest, OnlineMemoryRequest,
};
use vminitd_api::system_ttrpc::System;

use super::error::stopping;
use super::Domain;
use crate::guest::freeze::Freezer;
use crate::guest::hotplug::Hotplug;
use crate::wire::Caller;

pub struct SystemService {
    /// What Info answers: nothing in it changes.
    info: InfoResponse,
    prepare: mpsc::Sender<Prepare>,
    freezer: Freezer,
    hotplug: Hotplug,
}

/// A PrepareShutdown, on its way to whoever stops the guest.
pub struct Prepare {
    /// Whose connection it came over.
    pub caller: Caller,
    /// What it is answered with. Dropping it says that the guest stops anyway.
    pub answer: oneshot::Sender<Result<(), Unprepared>>,
}

/// Why the guest is not ready to be switched off: this step has not ended yet. It goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("prepare for the shutdown: {0} has not ended yet")]
pub struct Unprepared(pub &'static str);

impl SystemService {
    pub fn new(domain: &Domain) -> SystemService {
        let time = |(name, time): &(&str, Duration)| BootTime {
            name: (*name).to_owned(),
            micros: u64::try_from(time.as_micros()).unwrap_or(u64::MAX),
            ..Default::default()
        };
        let info = InfoResponse {
            version: domain.version.clone(),
            // Without /proc the answer is still worth having.
            kernel_version: std::fs::read_to_string("/proc/version").unwrap_or_default(),
            boot_failures: domain.boot.failures.clone(),
            boot_times: domain.boot.times.iter().map(time).collect(),
            ..Default::default()
        };
        SystemService {
            info,
            prepare: domain.prepare.clone(),
            freezer: domain.freezer.clone(),
            hotplug: domain.hotplug.clone(),
        }
    }
}

#[async_trait]
impl System for SystemService {
    async fn info(&self, _ctx: &TtrpcContext, _: Empty) -> ttrpc::Result<InfoResponse> {
        Ok(self.info.clone())
    }

    async fn prepare_shutdown(&self, _ctx: &TtrpcContext, _: Empty) -> ttrpc::Result<Empty> {
        let (answer, answered) = oneshot::channel();
        let prepare = Prepare { caller: Caller::current(), answer };
        // Neither fails but when the guest stops.
        self.prepare.send(prepare).await.map_err(|_| stopping())?;
        answered.await.map_err(|_| stopping())??;
        Ok(Empty::new())
    }

    async fn freeze_filesystems(
        &self,
        _: &TtrpcContext,
        _: Empty,
    ) -> ttrpc::Result<FreezeFilesystemsResponse> {
        let points = self.freezer.freeze(Caller::current().gone()).await?;
        let frozen = points.into_iter().map(|point| point.to_string_lossy().into_owned()).collect();
        Ok(FreezeFilesystemsResponse { frozen, ..Default::default() })
    }

    async fn thaw_filesystems(&self, _ctx: &TtrpcContext, _: Empty) -> ttrpc::Result<Empty> {
        self.freezer.thaw_all().await?;
        Ok(Empty::new())
    }

    async fn offline_cpu(&self, _ctx: &TtrpcContext, req: OfflineCPURequest) -> ttrpc::Result<Empty> {
        self.hotplug.offline_cpu(req.cpu_id).await?;
        Ok(Empty::new())
    }

    async fn online_cpu(&self, _ctx: &TtrpcContext, req: OnlineCPURequest) -> ttrpc::Result<Empty> {
        self.hotplug.online_cpu(req.cpu_id).await?;
        Ok(Empty::new())
    }

    async fn offline_memory(&self, _ctx: &TtrpcContext, req: OfflineMemoryRequest) -> ttrpc::Result<Empty> {
        self.hotplug.offline_memory(req.memory_id).await?;
        Ok(Empty::new())
    }

    async fn online_memory(&self, _ctx: &TtrpcContext, req: OnlineMemoryRequest) -> ttrpc::Result<Empty> {
        self.hotplug.online_memory(req.memory_id).await?;
        Ok(Empty::new())
    }
}
