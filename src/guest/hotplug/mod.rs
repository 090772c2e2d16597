//! Processors and memory that the host plugs into the running VM, or wants back: taken into service and out of it.
//!
//! Nothing here plugs: that is the host's. What is not there yet is waited for by what the kernel says of its devices,
//! a while. Changes are made off the runtime's thread, as they can take seconds, and one at a time.

mod cpu;
mod memory;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::blocking::BlockingError;
use crate::sys::uevent::Uevents;
use memory::Added;

/// How long what the host has plugged may take to show: it calls right after the plugging.
const APPEARS: Duration = Duration::from_secs(2);

/// Why a processor or memory is not as it was to be. The texts, their last words too, are those of spinbox's guest
/// (docs/PROTOCOL.md, System); the codes are given in `services/error.rs`.
#[derive(Debug, thiserror::Error)]
pub enum HotplugError {
    #[error("cpu 0 cannot be offlined (boot processor): invalid argument")]
    BootCpu,
    #[error("{what} {id} not present: not found")]
    Absent { what: &'static str, id: u32 },
    #[error("{what} {id}: timeout waiting for {}: not found", path.display())]
    Late { what: &'static str, id: u32, path: PathBuf },
    #[error("memory block {0} is not removable (kernel in use): failed precondition")]
    InUse(u32),
    /// What is in all of the memory would not fit into the rest.
    #[error("memory block {0} is not removable (memory in use): failed precondition")]
    Needed(u32),
    /// The kernel refused.
    #[error("{what} {id}: write {}: {source}", path.display())]
    Write { what: &'static str, id: u32, path: PathBuf, source: io::Error },
    #[error("wait for a device: {0}")]
    Uevents(#[source] io::Error),
    #[error(transparent)]
    Blocking(#[from] BlockingError),
}

/// The VM's processors and memory; a handle.
#[derive(Clone)]
pub struct Hotplug(Arc<Shared>);

struct Shared {
    cpus: PathBuf,
    memory: PathBuf,
    /// Held while a processor is switched on or off.
    switching: Mutex<()>,
    /// Held while memory is.
    added: Mutex<Added>,
}

impl Hotplug {
    /// `sys` is where sysfs is mounted. What is there by now is taken for what the VM was booted with.
    pub fn new(sys: &Path) -> Hotplug {
        let system = sys.join("devices/system");
        let (cpus, memory) = (system.join("cpu"), system.join("memory"));
        let added = Mutex::new(Added::since(&memory::blocks(&memory)));
        Hotplug(Arc::new(Shared { cpus, memory, switching: Mutex::default(), added }))
    }
}

/// Looks until `look` finds something, again whenever the kernel tells of a device of `subsystem`. `None` if that did
/// not happen in time.
async fn appears<T>(subsystem: &str, look: impl Fn() -> Option<T>) -> Result<Option<T>, HotplugError> {
    if let Some(found) = look() {
        return Ok(Some(found));
    }
    // Subscribed before the next look, so that nothing comes unseen between the two.
    let uevents = Uevents::subscribe().map_err(HotplugError::Uevents)?;
    let waiting = async {
        loop {
            if let Some(found) = look() {
                return Ok(found);
            }
            uevents.tell_of(subsystem).await.map_err(HotplugError::Uevents)?;
        }
    };
    timeout(APPEARS, waiting).await.ok().transpose()
}
