//! The VM's own network: links, addresses, routes, neighbours, the resolver's files. At boot from `ip=` parameters,
//! afterwards as a host asks. It knows nothing of containers, nor of protobuf.
//!
//! What is wanted is parsed into types that cannot be wrong (`wanted`), planned by a pure function (`plan`) and carried
//! out (`apply`) through the kernel's tables (`kernel`), whose entries have a file of their own (`entry`). Asking a DHCP
//! server would be one more source of a [`Wanted`]; there is none yet.

mod apply;
mod entry;
mod files;
mod ip_param;
mod kernel;
mod message;
mod plan;
mod sysctl;
mod types;
mod wanted;

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

pub use apply::{Failure, Why};
pub use entry::{AddressState, Counters, Link, Route};
pub use files::{Host, Resolver, Word};
pub use ip_param::host_name;
pub use kernel::KernelError;
pub use sysctl::{parse_value, SysctlName};
pub use types::{parse_address, Invalid, LinkName, Mac, Prefix};
pub use wanted::{Scope, Wanted, WantedAddress, WantedLink, WantedRoute, Which, MTU_MAX, MTU_MIN};

use crate::blocking::{self, BlockingError};
use crate::sys::net::bring_up;
use apply::Applied;
use kernel::Kernel;

/// What the network is to be at boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The `ip=` parameters, without that prefix, in their order.
    pub ip: Vec<String>,
    /// Whether there is a route to the metadata service.
    pub metadata: bool,
    /// How long their devices, all together, may take to appear.
    pub wait: Duration,
    /// Where the resolver's files are.
    pub etc: PathBuf,
}

/// Brings `lo` up, without which no process of the VM reaches 127.0.0.1; the kernel leaves it down.
pub fn loopback_up() -> io::Result<()> {
    bring_up("lo")
}

/// Configures what the parameters name, and tells `failed` of each part of it that could not be done. Blocks for as
/// long as devices are waited for.
pub fn configure(settings: &Settings, mut failed: impl FnMut(&dyn Display)) {
    let (wanted, problems) = ip_param::wanted(&settings.ip, settings.metadata);
    problems.iter().for_each(|problem| failed(problem));
    if wanted == Wanted::default() {
        return;
    }
    let deadline = Instant::now() + settings.wait;
    // What is set at boot is not what a host has applied: it stays.
    let failures = apply::apply(&wanted, &mut Applied::default(), &settings.etc, deadline);
    failures.iter().for_each(|failure| failed(failure));
}

/// The network as a host sees and changes it; a handle.
#[derive(Clone)]
pub struct Network {
    applied: Arc<Mutex<Applied>>,
    /// None where the network is not ours to change.
    etc: Option<PathBuf>,
}

/// What the network is.
#[derive(Debug, Default)]
pub struct Status {
    pub links: Vec<Link>,
    pub addresses: Vec<AddressState>,
    pub routes: Vec<Route>,
}

/// Why the network is not as it was asked to be.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("not the init of a machine: its network is not changed")]
    NotOurs,
    #[error("read the network")]
    Read(#[source] KernelError),
    /// What could not be done. All else was.
    #[error("{}", list(.0))]
    Failed(Vec<Failure>),
    #[error(transparent)]
    Blocking(#[from] BlockingError),
}

/// Longest text of a list of failures; what has no room is counted.
const LIST_MAX: usize = 2048;

fn list(failures: &[Failure]) -> String {
    let mut text = String::new();
    for (place, failure) in failures.iter().enumerate() {
        let failure = failure.to_string();
        if text.len() + failure.len() > LIST_MAX {
            return format!("{text}; and {} more", failures.len() - place);
        }
        if place > 0 {
            text.push_str("; ");
        }
        text.push_str(&failure);
    }
    text
}

impl Network {
    /// `etc` is where the resolver's files are; none where nothing may be changed, since this is no machine of ours.
    pub fn new(etc: Option<&Path>) -> Network {
        Network { applied: Arc::default(), etc: etc.map(Path::to_owned) }
    }

    /// Makes the network as it is wanted: what was applied earlier and is wanted no more goes, what was not stays.
    /// Calls are done one after the other, in the order in which they came. Links that are wanted may take `wait` to
    /// appear, from when it is the call's turn. Once begun it is finished, also if the future is dropped.
    pub async fn apply(&self, wanted: Wanted, wait: Duration) -> Result<(), NetworkError> {
        let etc = self.etc.clone().ok_or(NetworkError::NotOurs)?;
        let mut applied = self.applied.clone().lock_owned().await;
        off_thread(Box::new(move || {
            let failures = apply::apply(&wanted, &mut applied, &etc, Instant::now() + wait);
            if failures.is_empty() {
                return Ok(Status::default());
            }
            for failure in &failures {
                tracing::warn!(%failure, "network");
            }
            Err(NetworkError::Failed(failures))
        }))
        .await
        .map(drop)
    }

    /// Reads what there is, from the kernel.
    pub async fn get(&self) -> Result<Status, NetworkError> {
        off_thread(Box::new(|| Status::read().map_err(NetworkError::Read))).await
    }
}

impl Status {
    fn read() -> Result<Status, KernelError> {
        let mut kernel = Kernel::open()?;
        Ok(Status { links: kernel.links()?, addresses: kernel.addresses()?, routes: kernel.routes()? })
    }
}

/// Work of one type for both calls: the machinery around each type of it takes some KiB of the binary.
type Work = Box<dyn FnOnce() -> Result<Status, NetworkError> + Send>;

async fn off_thread(work: Work) -> Result<Status, NetworkError> {
    blocking::run("work on the network", work).await?
}

#[cfg(test)]
mod tests;
