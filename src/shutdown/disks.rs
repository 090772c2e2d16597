//! The last of the disks: thawed, unmounted, written back. For the ordered stop and for PrepareShutdown; without a
//! runtime too, as after a panic. Each step has a bound. It never detaches a mount and never removes a file.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use crate::sys::mount::{self, Released};
use crate::sys::mountinfo::{self, Mounted};
use crate::sys::{freeze, power};

/// For each step; a disk that has gone away never answers.
const STEP: Duration = Duration::from_secs(10);

/// The kernel's own trees: nothing in them is on a disk, and the last lines of the log need them.
const KERNELS: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Unmounts what is left below `folder`. Blocks.
pub fn release_below(folder: PathBuf) {
    bounded("unmount", Box::new(move || release(listed(mountinfo::below(&folder)))));
}

/// Unmounts everything but the kernel's own trees and a root in memory; writes it all back. For PID 1, when all other
/// processes have gone. Blocks.
pub fn release_all() {
    bounded("thaw", Box::new(thaw));
    let unmount = || {
        let kernels = |mount: &Mounted| KERNELS.iter().any(|tree| mount.point.starts_with(tree));
        let memory_root = |mount: &Mounted| !mount.is_on_disk() && mount.point.parent().is_none();
        release(all_mounts().into_iter().filter(|mount| !kernels(mount) && !memory_root(mount)).collect());
    };
    bounded("unmount", Box::new(unmount));
    sync();
}

/// Writes everything back. Blocks.
pub fn sync() {
    bounded("sync", Box::new(power::sync));
}

/// Whatever was frozen, be it by a container, takes writes again: to unmount it would leave it dirty.
fn thaw() {
    for mount in all_mounts().iter().filter(|mount| mount.is_on_disk()) {
        // It fails for all that is not frozen; what cannot be thawed cannot be unmounted either, which is told then.
        let _ = fs::File::open(&mount.point).and_then(freeze::thaw);
    }
}

/// Those that cover others come first.
fn release(mounts: Vec<Mounted>) {
    for mount in mounts {
        match mount::release(&mount) {
            Ok(Released::Unmounted) => {}
            Ok(Released::ReadOnly) => tracing::info!(path = %mount.point.display(), "busy: made read-only"),
            // What is in memory only needs no care.
            Ok(Released::Busy) if !mount.is_on_disk() => {}
            Ok(Released::Busy) => tracing::warn!(path = %mount.point.display(), "busy: cannot be unmounted"),
            Err(error) => tracing::warn!(path = %mount.point.display(), %error, "cannot unmount"),
        }
    }
}

fn all_mounts() -> Vec<Mounted> {
    listed(mountinfo::topmost_first())
}

fn listed(mounts: io::Result<Vec<Mounted>>) -> Vec<Mounted> {
    mounts.unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot read the table of mounts");
        Vec::new()
    })
}

/// On a thread of its own: those for blocking work may all be stuck on the very disk that does not answer.
fn bounded(what: &'static str, step: Box<dyn FnOnce() + Send>) {
    let (done, ended) = mpsc::channel();
    let thread = std::thread::Builder::new().name(what.to_owned()).spawn(move || {
        step();
        // Whoever waited may have given up.
        let _ = done.send(());
    });
    match thread.map(|_| ended.recv_timeout(STEP)) {
        Ok(Ok(())) => {}
        Ok(Err(mpsc::RecvTimeoutError::Timeout)) => tracing::error!("{what} did not end in time"),
        Ok(Err(mpsc::RecvTimeoutError::Disconnected)) => tracing::error!("{what} panicked"),
        Err(error) => tracing::error!(%error, "cannot start a thread for {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mount::{mount, MsFlags};
    use crate::sys::mountinfo::mounts_below;
    use crate::sys::testing::in_private_mounts;

    #[test]
    fn below_a_folder_all_goes_but_what_is_in_use_and_nothing_beside_it() {
        in_private_mounts(|| {
            let dir = tempfile::tempdir().expect("a folder");
            let [below, beside] = ["below", "beside"].map(|name| dir.path().join(name));
            let [busy, nested] = ["busy", "idle/nested"].map(|name| below.join(name));
            let tmpfs = |point: &PathBuf| {
                fs::create_dir_all(point).expect("make a place");
                mount("t", point, "tmpfs", MsFlags::empty(), "").expect("mount");
            };
            [&beside, &busy, &below.join("idle"), &nested, &nested].into_iter().for_each(tmpfs);
            let user = fs::File::create(busy.join("file")).expect("use it");
            release_below(below.clone());
            assert_eq!(mounts_below(dir.path()).expect("the table"), [busy, beside]);
            drop(user);
            release_below(below.clone());
            assert!(mounts_below(&below).expect("the table").is_empty());
        });
    }
}
