//! The OCI runtime as typed calls.
//!
//! Each call is one invocation of the `runc` binary (or of one with runc's command line) with a scratch folder of its
//! own for the log, the pid file, the console socket and the process spec, and with a deadline of its own. Knows nothing of what a
//! container is to the rest of the program. Every call is to be awaited to its end: dropping one leaves runc running,
//! which only the end of the daemon does. The scratch folders are on a tmpfs in PID 1, so their files are read and
//! written in place.

mod console;
mod container;
pub mod criu;
mod invoke;
mod life;
mod log;
mod options;
mod output;
pub mod resources;
mod scratch;
pub mod spec;

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::sync::{watch, Semaphore, SemaphorePermit};

pub use container::{Container, Created};
pub use options::{CgroupsMode, CheckpointOptions, Options};

use crate::flag::raised;
use crate::reaper::Reaper;
use crate::sys::rlimit::Limit;

/// How many runcs may create a process at once. Each takes some 20 MiB (it copies its binary into memory first) and a
/// fifth of a second of one processor: with 64 at once a machine of 512 MiB runs out of memory, and an emulated one
/// ends none of them before the deadline of all.
const CREATING_AT_ONCE: usize = 8;

/// Why a `runc` invocation did not do its job.
#[derive(Debug, thiserror::Error)]
pub enum RuncError {
    /// The binary never ran: missing, not executable, or no memory.
    #[error("start runc {verb}: {source}")]
    Start { verb: &'static str, source: std::io::Error },
    /// It ran and refused; `reason` is the last error in its JSON log, or else the end of its stderr.
    #[error("OCI runtime {verb} failed: {reason}")]
    Refused { verb: &'static str, reason: String },
    /// It did not end in time and was killed.
    #[error("runc {verb} did not end within {} s", limit.as_secs())]
    Deadline { verb: &'static str, limit: Duration },
    /// The daemon stops: only what tears down is run any more.
    #[error("runc {verb} was stopped: the guest is shutting down")]
    Stopping { verb: &'static str },
    /// The container ended or was deleted meanwhile.
    #[error("runc {verb} was stopped: the container has ended")]
    Ended { verb: &'static str },
    /// Nothing was done: runc's state has something of this id that is not ours.
    #[error("container {id} already exists in the runtime's state")]
    Exists { id: String },
    /// It said that all went well, but what it should have left behind is not there.
    #[error("runc {verb} left no usable {what}: {reason}")]
    Result { verb: &'static str, what: &'static str, reason: String },
    /// The reaper is gone, and with it the daemon.
    #[error("runc {verb}: {source}")]
    Reaper { verb: &'static str, source: crate::reaper::ReaperGone },
}

impl RuncError {
    /// Whether runc refused because it knows no such container: "container does not exist" (libcontainer's
    /// ErrNotExist), in older versions with the id in between; crun does not find its status file.
    pub fn is_not_found(&self) -> bool {
        let runc_says_so =
            |reason: &str| reason.starts_with("container ") && reason.ends_with(" does not exist");
        let says_so =
            |reason: &str| runc_says_so(reason) || reason.ends_with("/status`: No such file or directory");
        matches!(self, RuncError::Refused { reason, .. } if says_so(reason))
    }

    /// Whether runc refused because the process it was to act on has ended (libcontainer's ErrNotRunning, and the
    /// errors of the kernel and of Go for it; in crun "container `ID` is not running", and the kernel's as libc has
    /// it).
    pub fn is_finished(&self) -> bool {
        const TEXTS: [&str; 5] = [
            "container not running",
            "` is not running",
            "process already finished",
            "no such process",
            "No such process",
        ];
        matches!(self, RuncError::Refused { reason, .. } if TEXTS.iter().any(|text| reason.contains(text)))
    }

    /// Whether runc refused a resume because the container is not paused (libcontainer's ErrNotPaused).
    pub fn is_not_paused(&self) -> bool {
        matches!(self, RuncError::Refused { reason, .. } if reason.ends_with("container not paused"))
    }
}

/// How long each kind of invocation may take.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// create and exec: they load an image and run hooks.
    pub create: Duration,
    /// start, delete, pause, resume and update.
    pub change: Duration,
    /// kill and ps: they only look or send.
    pub query: Duration,
    /// checkpoint, whose caller may ask for less.
    pub checkpoint: Duration,
}

/// What is the same for every invocation.
pub struct Settings {
    /// Found at the first call, as the boot may bring it.
    pub binary: LazyLock<PathBuf, Box<dyn FnOnce() -> PathBuf + Send>>,
    /// Where runc keeps its own state (`--root`), unless a container's options say otherwise.
    pub root: PathBuf,
    /// Folder for the scratch folders of invocations; created when first needed.
    pub scratch: PathBuf,
    /// The root file system cannot be pivoted away from (it is the initramfs).
    pub no_pivot: bool,
    /// The limits on open files that runc, and with it containers, start with.
    pub file_limit: Limit,
    pub deadlines: Deadlines,
}

/// The OCI runtime.
#[derive(Clone)]
pub struct Runtime {
    reaper: Reaper,
    settings: Arc<Settings>,
    stopping: Arc<watch::Sender<bool>>,
    /// One for each runc that may create a process now.
    turns: Arc<Semaphore>,
}

impl Runtime {
    pub fn new(reaper: Reaper, settings: Settings) -> Runtime {
        if settings.no_pivot {
            tracing::warn!("runc gets --no-pivot: the root could not be moved off the initramfs");
        }
        Runtime {
            reaper,
            settings: Arc::new(settings),
            stopping: Arc::new(watch::Sender::new(false)),
            turns: Arc::new(Semaphore::new(CREATING_AT_ONCE)),
        }
    }

    /// The container of this id, whether runc knows it or not.
    pub fn container(&self, id: &str, options: Options) -> Container {
        Container::new(self.clone(), id.to_owned(), options)
    }

    /// The daemon stops, or all containers go: from now on every runc is killed that does not tear down.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// The daemon does not stop after all.
    pub fn go_on(&self) {
        self.stopping.send_replace(false);
    }

    /// Waits until one more runc may create a process; it may as long as what this returns is held. The deadline of
    /// that runc begins after the wait. Refused once the daemon stops.
    async fn turn(&self, verb: &'static str) -> Result<SemaphorePermit<'_>, RuncError> {
        tokio::select! {
            turn = self.turns.acquire() => Ok(turn.expect("nobody closes the semaphore")),
            () = self.stopping() => Err(RuncError::Stopping { verb }),
        }
    }

    async fn stopping(&self) {
        raised(&mut self.stopping.subscribe()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(reason: &str) -> RuncError {
        RuncError::Refused { verb: "kill", reason: reason.to_owned() }
    }

    #[test]
    fn a_container_that_is_unknown_is_told_from_one_that_has_ended() {
        for reason in [
            "container does not exist",
            "container \"c\" does not exist",
            "error opening file `/run/runc/c/status`: No such file or directory",
        ] {
            assert_eq!(
                (refused(reason).is_not_found(), refused(reason).is_finished()),
                (true, false),
                "{reason}"
            );
        }
        for reason in [
            "container not running",
            "os: process already finished",
            "container `c` is not running",
            "kill container: No such process",
        ] {
            assert_eq!(
                (refused(reason).is_not_found(), refused(reason).is_finished()),
                (false, true),
                "{reason}"
            );
        }
        let other = refused("exec: \"/bin/nosuch\": stat /bin/nosuch: no such file or directory");
        assert_eq!((other.is_not_found(), other.is_finished()), (false, false));
    }
}
