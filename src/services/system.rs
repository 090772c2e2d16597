//! The System service.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
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
use vminitd_api::system_ttrpc::{create_system, System};

use super::error::stopping;
use super::Domain;
use crate::guest::booting::{Booting, Progress};
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

/// Info. Hosts call it to see whether the guest is there, so that its answer is encoded once nothing in it changes any
/// more.
struct Info {
    version: String,
    kernel_version: String,
    booting: Booting,
    settled: OnceLock<Vec<u8>>,
}

/// The methods of the service.
pub fn methods(domain: &Domain) -> HashMap<String, Service> {
    let system = SystemService {
        prepare: domain.prepare.clone(),
        freezer: domain.freezer.clone(),
        hotplug: domain.hotplug.clone(),
    };
    let info = Info {
        version: domain.version.clone(),
        // Without /proc the answer is still worth having.
        kernel_version: std::fs::read_to_string("/proc/version").unwrap_or_default(),
        booting: domain.booting.clone(),
        settled: OnceLock::new(),
    };
    let mut services = create_system(Arc::new(system));
    if let Some(service) = services.get_mut(vminitd_api::service::SYSTEM) {
        service.methods.insert("Info".to_owned(), Box::new(info));
    }
    services
}

impl Info {
    fn encoded(&self) -> Vec<u8> {
        if let Some(settled) = self.settled.get() {
            return settled.clone();
        }
        // Asked before what is known is read: of a boot that is over all is known.
        let over = !self.booting.goes_on();
        let encoded = self.response().write_to_bytes().expect("no message of ours has required fields");
        if over {
            self.settled.get_or_init(|| encoded.clone());
        }
        encoded
    }

    fn response(&self) -> InfoResponse {
        let Progress { failures, times, .. } = self.booting.so_far();
        InfoResponse {
            version: self.version.clone(),
            kernel_version: self.kernel_version.clone(),
            boot_failures: failures.lines(),
            boot_times: times.into_iter().map(boot_time).collect(),
            ..Default::default()
        }
    }
}

fn boot_time((name, time): (&str, Duration)) -> BootTime {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    BootTime { name: name.to_owned(), micros, ..Default::default() }
}

#[async_trait]
impl MethodHandler for Info {
    async fn handler(&self, _: TtrpcContext, request: Request) -> ttrpc::Result<Response> {
        // In the words of generated code.
        Empty::parse_from_bytes(&request.payload)
            .map_err(|error| ttrpc::Error::Others(format!("Unpack request error {error}")))?;
        let mut response = Response::new();
        response.set_status(ttrpc::get_status(ttrpc::Code::OK, ""));
        response.payload = self.encoded();
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
