//! The calls of the System service that freeze file systems and take plugged hardware in. Adds nothing to what the
//! guest does.

use std::time::Duration;

use vminitd_api::containerd::api::Empty;
use vminitd_api::system::{OfflineCPURequest, OfflineMemoryRequest, OnlineCPURequest, OnlineMemoryRequest};
use vminitd_api::ttrpc::context::{with_duration, Context};

use super::{Client, ClientError};

/// Longer than the guest takes for any of them: disks have half a minute to be frozen.
const CALL: Duration = Duration::from_secs(60);

impl Client {
    /// Freezes the guest's file systems; gives their mount points. They are thawed when this connection ends.
    ///
    /// # Errors
    /// `Rpc`, as for every call below.
    pub async fn freeze_filesystems(&self) -> Result<Vec<String>, ClientError> {
        let reply = self.system().freeze_filesystems(call(), &Empty::new()).await;
        Ok(reply.map_err(ClientError::rpc("System.FreezeFilesystems"))?.frozen)
    }

    /// Thaws what was frozen.
    pub async fn thaw_filesystems(&self) -> Result<(), ClientError> {
        let reply = self.system().thaw_filesystems(call(), &Empty::new()).await;
        reply.map(drop).map_err(ClientError::rpc("System.ThawFilesystems"))
    }

    /// Has the guest use a processor, by the number of its kernel.
    pub async fn online_cpu(&self, cpu_id: u32) -> Result<(), ClientError> {
        let request = OnlineCPURequest { cpu_id, ..Default::default() };
        let reply = self.system().online_cpu(call(), &request).await;
        reply.map(drop).map_err(ClientError::rpc("System.OnlineCPU"))
    }

    /// Has the guest use a processor no more.
    pub async fn offline_cpu(&self, cpu_id: u32) -> Result<(), ClientError> {
        let request = OfflineCPURequest { cpu_id, ..Default::default() };
        let reply = self.system().offline_cpu(call(), &request).await;
        reply.map(drop).map_err(ClientError::rpc("System.OfflineCPU"))
    }

    /// Has the guest use the memory that was plugged last; `memory_id` is the host's number of it.
    pub async fn online_memory(&self, memory_id: u32) -> Result<(), ClientError> {
        let request = OnlineMemoryRequest { memory_id, ..Default::default() };
        let reply = self.system().online_memory(call(), &request).await;
        reply.map(drop).map_err(ClientError::rpc("System.OnlineMemory"))
    }

    /// Has the guest use that memory no more, so that it can be unplugged.
    pub async fn offline_memory(&self, memory_id: u32) -> Result<(), ClientError> {
        let request = OfflineMemoryRequest { memory_id, ..Default::default() };
        let reply = self.system().offline_memory(call(), &request).await;
        reply.map(drop).map_err(ClientError::rpc("System.OfflineMemory"))
    }
}

fn call() -> Context {
    with_duration(CALL)
}
