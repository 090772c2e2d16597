//! Waiting for block devices: those that a request or the configuration names, and no others. They are named by their
//! serial, which the host gives each disk because the order of disks is chance, by the label or the UUID of the file
//! system on them, or by their node in `/dev`.
//!
//! A look at a device asks the host, and one that does not answer holds the looking thread for good. So each look has a
//! thread for blocking work that may be lost, and never more than a few are. The kernel tells when to look again; what
//! it tells is no more than that, so whoever could speak in its name would gain nothing but a look.

mod name;
mod superblock;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::debug;

pub use self::name::names_device;
use self::name::{Device, Places};
use super::{Mount, RootfsError};
use crate::blocking::{self, LOOKS};
use crate::sys::uevent::Uevents;

/// How often to look where the kernel tells nothing: in a sandbox that forbids to listen to it.
const LOOK_EVERY: Duration = Duration::from_millis(50);

static TURNS: Semaphore = Semaphore::const_new(LOOKS);

/// File systems of block devices. Of any other type a source in `/dev` may be but a name (the tag of a virtiofs), or
/// what is to be bound. /proc/filesystems would tell, but not of those whose module has yet to be loaded.
const ON_DISK: [&str; 14] = [
    "btrfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "iso9660", "msdos", "ntfs3", "squashfs",
    "udf", "vfat", "xfs",
];

/// Makes the source of each of `mounts` what mount(2) takes for it: the name of a device becomes `/dev/<name>`, all else
/// stays. Waits up to `wait` for all devices together; what a look that has not ended by then would have found is not
/// there. Holds no thread between two looks.
pub(super) async fn resolve(mounts: &mut [Mount], wait: Duration) -> Result<(), RootfsError> {
    let (named, sought): (Vec<&mut Mount>, Vec<Device>) =
        mounts.iter_mut().filter_map(|mount| device_of(mount).map(|device| (mount, device))).unzip();
    let found = appear(&Looks::real(), &sought, wait).await;
    for ((mount, device), found) in named.into_iter().zip(sought).zip(found) {
        mount.source = found.ok_or_else(|| device.not_found())?;
    }
    Ok(())
}

/// The nodes of the devices that `names` name, each or why there is none. Waits up to `wait` for all of them together.
pub(super) async fn find(names: &[String], wait: Duration) -> Vec<Result<String, RootfsError>> {
    let named: Vec<Option<Device>> = names.iter().map(|name| Device::named(name)).collect();
    let sought: Vec<Device> = named.iter().flatten().cloned().collect();
    let mut found = appear(&Looks::real(), &sought, wait).await.into_iter();
    let results = named.into_iter().zip(names).map(|(device, name)| match device {
        Some(device) => found.next().flatten().ok_or_else(|| device.not_found()),
        None => Err(RootfsError::invalid("block device", name, "is no path in /dev, serial, label or uuid")),
    });
    results.collect()
}

/// A template has no device yet: it names that of an earlier mount.
fn device_of(mount: &Mount) -> Option<Device> {
    let kind = mount.kind.rsplit('/').next().unwrap_or_default();
    let may_be_node = ON_DISK.contains(&kind) && !mount.source.contains("{{");
    Device::named(&mount.source).filter(|device| may_be_node || !matches!(device, Device::Node(_)))
}

/// Where to look, whose turn it is, and who tells to look again.
struct Looks {
    places: Places,
    turns: &'static Semaphore,
    subscribe: fn() -> io::Result<Uevents>,
}

impl Looks {
    fn real() -> Looks {
        let places = Places { sys: PathBuf::from("/sys"), dev: PathBuf::from("/dev") };
        Looks { places, turns: &TURNS, subscribe: Uevents::subscribe }
    }

    /// The turn goes with the look: one that hangs keeps it, whoever has ceased to wait.
    async fn once(&self, sought: Vec<Device>) -> Option<Vec<Option<String>>> {
        let turn = self.turns.acquire().await.expect("this semaphore is never closed");
        let places = self.places.clone();
        let look = move || {
            let _turn = turn;
            places.look(&sought)
        };
        blocking::run("looking for block devices", look).await.ok()
    }
}

/// Looks until all of `sought` are there or `wait` is over, with one look at a time; the node of each that is there.
async fn appear(looks: &Looks, sought: &[Device], wait: Duration) -> Vec<Option<String>> {
    let mut found = vec![None; sought.len()];
    if sought.is_empty() {
        return found;
    }
    let looking = async {
        for look in 0.. {
            // Before the look, so that nothing comes unnoticed behind it; anew each time, so that what many messages
            // tell is one look.
            let uevents = (looks.subscribe)();
            found = looks.once(sought.to_vec()).await.unwrap_or_else(|| found.clone());
            let missing = found.iter().filter(|node| node.is_none()).count();
            if missing == 0 {
                break;
            }
            if look == 0 {
                debug!(missing, kernel_tells = uevents.is_ok(), "wait for block devices");
            }
            if told(uevents).await.is_err() {
                sleep(LOOK_EVERY).await;
            }
        }
    };
    // Over or not: what the last look has found is found.
    let _ = timeout(wait, looking).await;
    found
}

/// Waits until the kernel tells of a block device.
async fn told(uevents: io::Result<Uevents>) -> io::Result<()> {
    uevents?.tell_of("block").await
}
