//! The file systems of disks stand still for a snapshot: who has them so, for how long, and what may go on meanwhile.
//!
//! Frozen file systems hold up every process that writes to them, so nothing here may leave them so: a freeze ends with
//! the connection it came over, with its time, with the daemon. It waits for no disk on the runtime's thread.

mod held;
mod holds;
mod target;

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{watch, Mutex};
use tokio::time::{sleep, timeout, timeout_at, Instant};

use super::clock::Clock;
use crate::blocking::{self, BlockingError};
use crate::sys::mountinfo;
use crate::tracked::Tracked;
use held::{Held, Threads};
use holds::{Hold, Holds};
use target::Target;

pub use holds::Refused;

/// How long a freeze waits for calls under way that may write. A runc that is begun takes less than a second; whatever
/// takes longer stands still until the thaw, which harms nothing.
const WRITERS_WAIT: Duration = Duration::from_secs(2);

/// How long all disks together may take to be frozen. What is dirty has to be written, which at the 20 MiB/s of a slow
/// disk is good for the 600 MiB that a VM of some GiB lets be dirty (vm.dirty_ratio).
const FREEZE_WAIT: Duration = Duration::from_secs(30);

/// How long all disks together may take to be thawed: it writes a block or two to each.
const THAW_WAIT: Duration = Duration::from_secs(5);

/// Why file systems could not be frozen or thawed, or why something was not begun.
#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    /// Nothing that this freeze had frozen is so any more.
    #[error("FIFREEZE {}: {source}", path.display())]
    Freeze { path: PathBuf, source: io::Error },
    /// The others are thawed.
    #[error("FITHAW {}: {source}", path.display())]
    Thaw { path: PathBuf, source: io::Error },
    #[error("read the table of mounts: {0}")]
    Mounts(#[source] io::Error),
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Blocking(#[from] BlockingError),
}

/// How freezing is done.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a freeze lasts without a thaw, by the clock of the guest that stands still when the VM does
    /// (CLOCK_MONOTONIC).
    pub longest: Duration,
    /// Only file systems that are mounted here or below are frozen.
    pub below: PathBuf,
}

/// The one who freezes and thaws; a handle. The last of them dropped, everything is thawed.
#[derive(Clone)]
pub struct Freezer(Arc<Shared>);

struct Shared {
    settings: Settings,
    /// What is frozen. Locked while a freeze or a thaw is under way, which all have their bounds.
    held: Mutex<Vec<Held>>,
    holds: watch::Sender<Holds>,
    threads: Threads,
    /// Looked at after each thaw: time has passed that the guest may not know of.
    clock: Clock,
    watchers: Tracked,
}

/// A call that may write to a disk. While it lives a freeze waits for it, a while.
pub struct Writing(Freezer);

impl Drop for Writing {
    fn drop(&mut self) {
        self.0 .0.holds.send_modify(Holds::leave);
    }
}

/// As long as it lives there is no freeze.
pub struct Bar(Freezer);

impl Drop for Bar {
    fn drop(&mut self) {
        self.0 .0.holds.send_modify(|holds| holds.bar(false));
    }
}

/// A freeze under way, however it ends.
struct Freezing<'a>(&'a Freezer);

impl Drop for Freezing<'_> {
    fn drop(&mut self) {
        self.0 .0.holds.send_modify(Holds::end);
    }
}

impl Freezer {
    /// Nothing is frozen yet.
    pub fn new(settings: Settings, clock: Clock) -> Freezer {
        Freezer(Arc::new(Shared {
            settings,
            held: Mutex::default(),
            holds: watch::Sender::default(),
            threads: Threads::new(),
            clock,
            watchers: Tracked::default(),
        }))
    }

    /// Whether something may begin that may write to a disk: not from the beginning of a freeze until its end.
    pub fn write(&self) -> Result<Writing, FreezeError> {
        self.change(Holds::enter)?;
        Ok(Writing(self.clone()))
    }

    /// Freezes every file system on a disk that is not frozen yet, or none, and says where those that are frozen now
    /// are mounted. They are thawed when asked, or else once this freeze and all others are over: at the end of `gone`,
    /// which is the caller's, and in any case after the time of the settings.
    pub async fn freeze(
        &self,
        gone: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Vec<PathBuf>, FreezeError> {
        let mut held = self.0.held.lock().await;
        self.change(Holds::begin)?;
        let _freezing = Freezing(self);
        self.freeze_unless_stopped(&mut held).await?;
        let hold = self.change(Holds::hold);
        self.watch(hold, gone);
        let points: Vec<PathBuf> = held.iter().map(|held| held.point.clone()).collect();
        tracing::info!(?points, "frozen");
        Ok(points)
    }

    /// Thaws everything, whoever froze it. Without anything frozen it is done.
    ///
    /// # Errors
    /// The first; all are tried.
    pub async fn thaw_all(&self) -> Result<(), FreezeError> {
        let mut held = self.0.held.lock().await;
        self.thaw_held(&mut held).await
    }

    /// There is no freeze until what this returns is dropped, and one under way is given up. What is frozen stays so.
    pub fn bar(&self) -> Bar {
        self.0.holds.send_modify(|holds| holds.bar(true));
        Bar(self.clone())
    }

    /// Thaws everything for the last time: for the end of the daemon, when no disk may keep it waiting.
    pub async fn stop(&self) {
        self.0.holds.send_modify(Holds::stop);
        match timeout(THAW_WAIT, self.thaw_all()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "cannot thaw"),
            Err(_) => tracing::error!("a thaw is still under way"),
        }
    }

    fn change<T>(&self, step: impl FnOnce(&mut Holds) -> T) -> T {
        let mut answer = None;
        self.0.holds.send_modify(|holds| answer = Some(step(holds)));
        answer.expect("the change is made before that returns")
    }

    /// What a freeze has frozen that is dropped is thawed.
    async fn freeze_unless_stopped(&self, held: &mut Vec<Held>) -> Result<(), FreezeError> {
        let mut holds = self.0.holds.subscribe();
        let freezing = async {
            self.writers_have_left().await;
            self.freeze_all(held).await
        };
        tokio::select! {
            frozen = freezing => frozen,
            _ = holds.wait_for(Holds::is_stopped) => Err(Refused::Stopping.into()),
        }
    }

    async fn writers_have_left(&self) {
        let mut holds = self.0.holds.subscribe();
        let quiet = holds.wait_for(Holds::is_quiet);
        if timeout(WRITERS_WAIT, quiet).await.is_err() {
            tracing::warn!("calls that may write are still under way: they go on after the thaw");
        }
    }

    async fn freeze_all(&self, held: &mut Vec<Held>) -> Result<(), FreezeError> {
        let mounts = blocking::run("reading the table of mounts", mountinfo::mounts).await?;
        let targets = target::targets(mounts.map_err(FreezeError::Mounts)?, &self.0.settings.below);
        let deadline = Instant::now() + FREEZE_WAIT;
        let mut fresh = Vec::new();
        // Of two of which one is on a file of the other, that one was mounted later and has to be frozen first.
        for target in targets.into_iter().rev() {
            if held.iter().any(|held| held.device == target.device) {
                continue;
            }
            match self.freeze_one(target, deadline).await {
                Ok(one) => fresh.push(one),
                Err(error) => {
                    // The first error is the one to tell.
                    let _ = thaw(fresh).await;
                    return Err(error);
                }
            }
        }
        held.extend(fresh);
        Ok(())
    }

    async fn freeze_one(&self, target: Target, deadline: Instant) -> Result<Held, FreezeError> {
        let path = target.points.first().cloned().unwrap_or_default();
        let frozen = Held::freeze(target, &self.0.threads, deadline).await;
        frozen.map_err(|source| FreezeError::Freeze { path, source })
    }

    async fn thaw_held(&self, held: &mut Vec<Held>) -> Result<(), FreezeError> {
        let thawed = thaw(std::mem::take(held)).await;
        self.0.holds.send_modify(Holds::open);
        self.0.clock.resync();
        thawed
    }

    /// Ends `hold` in time, unless a thaw comes before.
    fn watch(&self, hold: Hold, gone: impl Future<Output = ()> + Send + 'static) {
        let freezer = self.clone();
        let mut holds = self.0.holds.subscribe();
        self.0.watchers.spawn(async move {
            let why = tokio::select! {
                _ = holds.wait_for(|holds| !holds.has(hold)) => return,
                () = gone => "its connection has ended",
                () = sleep(freezer.0.settings.longest) => "it has lasted too long",
            };
            tracing::warn!(why, "a freeze is over");
            freezer.end(hold).await;
        });
    }

    async fn end(&self, hold: Hold) {
        let mut held = self.0.held.lock().await;
        if !self.change(|holds| holds.is_last(hold)) {
            return self.0.holds.send_modify(|holds| holds.let_go(hold));
        }
        if let Err(error) = self.thaw_held(&mut held).await {
            tracing::error!(%error, "cannot thaw");
        }
    }
}

/// Thaws all of them at once: one that does not answer must not hold up the others, and one whose disk is a file on
/// another may have to wait for that.
async fn thaw(held: Vec<Held>) -> Result<(), FreezeError> {
    let deadline = Instant::now() + THAW_WAIT;
    let begun: Vec<_> = held.into_iter().map(Held::thaw).collect();
    let mut first = Ok(());
    for (path, thawing) in begun {
        let thawed = match timeout_at(deadline, thawing).await {
            Ok(Ok(thawed)) => thawed,
            Ok(Err(_)) => Err(io::Error::other("the thawing thread panicked")),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        first = first.and(thawed.map_err(|source| FreezeError::Thaw { path, source }));
    }
    first
}

#[cfg(test)]
mod tests;
