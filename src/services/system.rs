//! The System service.

use async_trait::async_trait;
use protobuf::well_known_types::empty::Empty;
use ttrpc::r#async::TtrpcContext;
use vminitd_api::system::{
    FreezeFilesystemsResponse, InfoResponse, OfflineCPURequest, OfflineMemoryRequest, OnlineCPURequest,
    OnlineMemoryRequest,
};
use vminitd_api::system_ttrpc::System;

use super::error::unimplemented;

pub struct SystemService {
    version: &'static str,
}

impl SystemService {
    pub fn new(version: &'static str) -> SystemService {
        SystemService { version }
    }
}

#[async_trait]
impl System for SystemService {
    async fn info(&self, _ctx: &TtrpcContext, _: Empty) -> ttrpc::Result<InfoResponse> {
        // A file of the kernel's memory: reading it does not block. Without /proc the answer is still worth having.
        let kernel_version = std::fs::read_to_string("/proc/version").unwrap_or_default();
        Ok(InfoResponse { version: self.version.to_owned(), kernel_version, ..Default::default() })
    }

    async fn prepare_shutdown(&self, _ctx: &TtrpcContext, _: Empty) -> ttrpc::Result<Empty> {
        Err(unimplemented("PrepareShutdown"))
    }

    async fn freeze_filesystems(
        &self,
        _: &TtrpcContext,
        _: Empty,
    ) -> ttrpc::Result<FreezeFilesystemsResponse> {
        Err(unimplemented("FreezeFilesystems"))
    }

    async fn thaw_filesystems(&self, _ctx: &TtrpcContext, _: Empty) -> ttrpc::Result<Empty> {
        Err(unimplemented("ThawFilesystems"))
    }

    async fn offline_cpu(&self, _ctx: &TtrpcContext, _: OfflineCPURequest) -> ttrpc::Result<Empty> {
        Err(unimplemented("OfflineCPU"))
    }

    async fn online_cpu(&self, _ctx: &TtrpcContext, _: OnlineCPURequest) -> ttrpc::Result<Empty> {
        Err(unimplemented("OnlineCPU"))
    }

    async fn offline_memory(&self, _ctx: &TtrpcContext, _: OfflineMemoryRequest) -> ttrpc::Result<Empty> {
        Err(unimplemented("OfflineMemory"))
    }

    async fn online_memory(&self, _ctx: &TtrpcContext, _: OnlineMemoryRequest) -> ttrpc::Result<Empty> {
        Err(unimplemented("OnlineMemory"))
    }
}
