//! The System service.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use protobuf::well_known_types::empty::Empty;
use protobuf::Message;
use tokio::sync::{mpsc, oneshot};
use ttrpc::proto::{Request, Response};
use ttrpc::r#async::{MethodHandler, Service, TtrpcContext};
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

/// All but Info.
struct SystemService {
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

/// Info, whose answer is encoded once: nothing in it changes, and hosts call it to see whether the guest is there.
struct Info(Vec<u8>);

/// The methods of the service.
pub fn methods(domain: &Domain) -> Service {
    let system = SystemService {
        prepare: domain.prepare.clone(),
        freezer: domain.freezer.clone(),
        hotplug: domain.hotplug.clone(),
    };
    let mut service = super::only(vminitd_api::system_ttrpc::create_system(Arc::new(system)));
    let encoded = info(domain).write_to_bytes().expect("no message of ours has required fields");
    service.methods.insert("Info".to_owned(), Box::new(Info(encoded)));
    service
}

fn info(domain: &Domain) -> InfoResponse {
    let time = |(name, time): &(&str, Duration)| BootTime {
        name: (*name).to_owned(),
        micros: u64::try_from(time.as_micros()).unwrap_or(u64::MAX),
        ..Default::default()
    };
    InfoResponse {
        version: domain.version.clone(),
        // Without /proc the answer is still worth having.
        kernel_version: std::fs::read_to_string("/proc/version").unwrap_or_default(),
        boot_failures: domain.boot.failures.clone(),
        boot_times: domain.boot.times.iter().map(time).collect(),
        ..Default::default()
    }
}

#[async_trait]
impl MethodHandler for Info {
    async fn handler(&self, _: TtrpcContext, _: Request) -> ttrpc::Result<Response> {
        let mut response = Response::new();
        response.set_status(ttrpc::get_status(ttrpc::Code::OK, ""));
        response.payload = self.0.clone();
        Ok(response)
    }
}

#[async_trait]
impl System for SystemService {
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
