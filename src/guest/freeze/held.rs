//! One frozen file system. A thread keeps it: it freezes, waits, and thaws, so that whatever becomes of those who asked
//! for it, and however long the disk takes, what was frozen is thawed.
//!
//! These threads are none of those for blocking work: the writers that a freeze holds up may have all of them.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{mpsc, Arc};

use tokio::sync::{oneshot, OwnedSemaphorePermit, Semaphore};
use tokio::time::{timeout_at, Instant};

use super::target::{Device, Target};
use crate::sys;

/// One for each disk that a VM may have, and more than fit its PCI bus: only disks that do not answer use them up.
const THREADS_MAX: usize = 64;

/// It calls little, and keeps nothing on it.
const STACK_BYTES: usize = 64 << 10;

/// The threads that may still be started; a handle.
#[derive(Clone)]
pub struct Threads(Arc<Semaphore>);

impl Threads {
    pub fn new() -> Threads {
        Threads(Arc::new(Semaphore::new(THREADS_MAX)))
    }
}

/// A file system that is frozen as long as this lives.
#[derive(Debug)]
pub struct Held {
    pub device: Device,
    /// Where it is mounted.
    pub point: PathBuf,
    /// Dropped, it tells the thread to thaw.
    keep: mpsc::Sender<()>,
    thawed: Thawing,
}

/// The outcome of a thaw, once there is one.
pub type Thawing = oneshot::Receiver<io::Result<()>>;

impl Held {
    /// Freezes it. After `deadline` nobody waits any more: should it be frozen then, it is thawed at once.
    ///
    /// # Errors
    /// Those of open(2) and FIFREEZE; `TimedOut`.
    pub async fn freeze(target: Target, threads: &Threads, deadline: Instant) -> io::Result<Held> {
        let turn = threads.0.clone().try_acquire_owned();
        let turn = turn.map_err(|_| io::Error::other("too many disks do not answer"))?;
        let (frozen, outcome) = oneshot::channel();
        let (keep, thaw) = mpsc::channel();
        let (done, thawed) = oneshot::channel();
        let device = target.device;
        let thread = move || hold(&target, frozen, &thaw, done, turn);
        std::thread::Builder::new().name("freeze".to_owned()).stack_size(STACK_BYTES).spawn(thread)?;
        let outcome = timeout_at(deadline, outcome).await.map_err(|_| io::ErrorKind::TimedOut)?;
        let point = outcome.unwrap_or_else(|_| Err(io::Error::other("the freezing thread panicked")))?;
        Ok(Held { device, point, keep, thawed })
    }

    /// Begins the thaw, which goes on whether it is awaited or not.
    pub fn thaw(self) -> (PathBuf, Thawing) {
        drop(self.keep);
        (self.point, self.thawed)
    }
}

/// The life of the thread.
fn hold(
    target: &Target,
    frozen: oneshot::Sender<io::Result<PathBuf>>,
    keep: &mpsc::Receiver<()>,
    done: oneshot::Sender<io::Result<()>>,
    _turn: OwnedSemaphorePermit,
) {
    let (point, dir) = match freeze(target) {
        Ok(held) => held,
        Err(error) => {
            // Whoever asked may have given up.
            let _ = frozen.send(Err(error));
            return;
        }
    };
    let _ = frozen.send(Ok(point.clone()));
    // Nothing is ever sent: it ends when the other side is dropped, which it may have been long ago.
    let _ = keep.recv();
    let thawed = sys::freeze::thaw(&dir);
    if let Err(error) = &thawed {
        tracing::error!(path = %point.display(), %error, "cannot thaw");
    }
    let _ = done.send(thawed);
}

fn freeze(target: &Target) -> io::Result<(PathBuf, File)> {
    let (point, dir) = open(target)?;
    sys::freeze::freeze(&dir)?;
    Ok((point, dir))
}

/// Opens the first of its mount points that still leads to it: others may have been covered by further mounts.
fn open(target: &Target) -> io::Result<(PathBuf, File)> {
    let mut last = io::ErrorKind::NotFound.into();
    for point in &target.points {
        match open_dir(point, target.device) {
            Ok(dir) => return Ok((point.clone(), dir)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn open_dir(point: &Path, (major, minor): Device) -> io::Result<File> {
    let dir = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(point)?;
    // Files of btrfs have other numbers than the file system, which has no device's (btrfs(5)).
    let is_it = major == 0 || dir.metadata()?.dev() == libc::makedev(major, minor);
    is_it.then_some(dir).ok_or_else(|| io::Error::other("something else is mounted over it"))
}
