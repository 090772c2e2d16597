//! The OCI runtime as typed calls.
//!
//! Each call is one invocation of the `runc` binary (or of one with runc's command line) with a scratch folder of its
//! own for the log, the pid file and the process spec, and with a deadline of its own. Knows nothing of what a
//! container is to the rest of the program. Every call is to be awaited to its end: dropping one leaves runc running,
//! which only the end of the daemon does. The scratch folders are on a tmpfs in PID 1, so their files are read and
//! written in place.

mod invoke;
mod log;
mod output;
mod scratch;
pub mod spec;

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::reaper::{ExitOf, Pid, Process, Reaper, Window};
use crate::sys::rlimit::Limit;
use crate::sys::signal::Signal;
use tokio::sync::watch;

use invoke::Invocation;
use scratch::Scratch;

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
    /// The daemon stops: nothing is created any more.
    #[error("runc {verb} was stopped: the guest is shutting down")]
    Stopping { verb: &'static str },
    /// It said that all went well, but what it should have left behind is not there.
    #[error("runc {verb} left no usable {what}: {reason}")]
    Result { verb: &'static str, what: &'static str, reason: String },
    /// The reaper is gone, and with it the daemon.
    #[error("runc {verb}: {source}")]
    Reaper { verb: &'static str, source: crate::reaper::ReaperGone },
}

impl RuncError {
    /// Whether runc refused because it knows no such container: "container does not exist" (libcontainer's
    /// ErrNotExist), in older versions with the id in between.
    pub fn is_not_found(&self) -> bool {
        let says_so = |reason: &str| reason.starts_with("container ") && reason.ends_with(" does not exist");
        matches!(self, RuncError::Refused { reason, .. } if says_so(reason))
    }
}

/// How long each kind of invocation may take.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// create and exec: they load an image and run hooks.
    pub create: Duration,
    /// start and delete.
    pub start: Duration,
    /// kill and ps: they only look or send.
    pub look: Duration,
}

/// What is the same for every invocation.
#[derive(Clone)]
pub struct Settings {
    pub binary: PathBuf,
    /// Where runc keeps its own state (`--root`).
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
    settings: Settings,
    stopping: Arc<watch::Sender<bool>>,
}

/// A process that runc has just created, not yet claimed from the reaper.
pub struct Created {
    pid: Pid,
    window: Window,
}

impl Created {
    /// Takes the process over from the reaper; its exit is delivered even if it has happened already.
    pub fn claim(self, verb: &'static str) -> Result<(Process, ExitOf), RuncError> {
        let unusable =
            |e: crate::reaper::NotOurs| RuncError::Result { verb, what: "process", reason: e.to_string() };
        self.window.claim(self.pid).map_err(unusable)
    }
}

impl Runtime {
    pub fn new(reaper: Reaper, settings: Settings) -> Runtime {
        if settings.no_pivot {
            tracing::warn!("runc gets --no-pivot: the root could not be moved off the initramfs");
        }
        Runtime { reaper, settings, stopping: Arc::new(watch::Sender::new(false)) }
    }

    /// Kills every runc that is creating a process, now and later: the daemon stops.
    pub fn stop_creating(&self) {
        self.stopping.send_replace(true);
    }

    async fn stopping(&self) {
        // It cannot fail: the sender is here.
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }

    /// `runc create`. `stdio` becomes that of the container's init, and runc's own meanwhile. When it fails nothing
    /// is left of the container.
    pub async fn create(&self, id: &str, bundle: &Path, stdio: [OwnedFd; 3]) -> Result<Created, RuncError> {
        let scratch = self.scratch("create")?;
        let mut call = Invocation::new("create", self.settings.deadlines.create);
        call.arg("--bundle").arg(bundle).arg("--pid-file").arg(scratch.pid_file());
        if self.settings.no_pivot {
            call.arg("--no-pivot");
        }
        call.arg(id);
        let created = self.leave_process(call, &scratch, stdio).await;
        if created.is_err() {
            self.roll_back(id).await;
        }
        created
    }

    /// Removes whatever a create that failed has left. Its own failure is logged: the caller has an error already.
    pub async fn roll_back(&self, id: &str) {
        if let Err(error) = self.delete(id).await {
            tracing::warn!(container = id, %error, "cannot roll back a create");
        }
    }

    /// `runc exec`, detached: starts one more process in a container. `process` is its OCI process spec.
    pub async fn exec(&self, id: &str, process: &[u8], stdio: [OwnedFd; 3]) -> Result<Created, RuncError> {
        let scratch = self.scratch("exec")?;
        scratch.write_process(process).map_err(|source| RuncError::Start { verb: "exec", source })?;
        let mut call = Invocation::new("exec", self.settings.deadlines.create);
        call.arg("--process").arg(scratch.process_file()).arg("--detach");
        call.arg("--pid-file").arg(scratch.pid_file()).arg(id);
        self.leave_process(call, &scratch, stdio).await
    }

    /// `runc start`.
    pub async fn start(&self, id: &str) -> Result<(), RuncError> {
        let mut call = Invocation::new("start", self.settings.deadlines.start);
        call.arg(id);
        self.run(call).await.map(drop)
    }

    /// `runc kill --all`: signals every process of the container's cgroup.
    pub async fn kill_all(&self, id: &str, signal: Signal) -> Result<(), RuncError> {
        let mut call = Invocation::new("kill", self.settings.deadlines.look);
        call.arg("--all").arg(id).arg(signal.to_string());
        self.run(call).await.map(drop)
    }

    /// `runc delete --force`: a container that runc knows nothing of is deleted already.
    pub async fn delete(&self, id: &str) -> Result<(), RuncError> {
        let mut call = Invocation::new("delete", self.settings.deadlines.start);
        call.arg("--force").arg(id);
        match self.run(call).await {
            Err(error) if error.is_not_found() => Ok(()),
            other => other.map(drop),
        }
    }

    /// `runc ps`: the pids of every process of the container, as this machine numbers them.
    pub async fn ps(&self, id: &str) -> Result<Vec<u32>, RuncError> {
        let mut call = Invocation::new("ps", self.settings.deadlines.look);
        call.arg("--format").arg("json").arg(id);
        let printed = self.run(call).await?;
        let unusable =
            |e: serde_json::Error| RuncError::Result { verb: "ps", what: "list", reason: e.to_string() };
        // runc prints `null` for a container without processes.
        Ok(serde_json::from_slice::<Option<Vec<u32>>>(&printed).map_err(unusable)?.unwrap_or_default())
    }

    fn scratch(&self, verb: &'static str) -> Result<Scratch, RuncError> {
        Scratch::new(&self.settings.scratch).map_err(|source| RuncError::Start { verb, source })
    }

    fn command(&self, call: &Invocation, scratch: &Scratch) -> Vec<OsString> {
        let mut argv: Vec<OsString> = vec![self.settings.binary.clone().into()];
        argv.extend(["--root".into(), self.settings.root.clone().into()]);
        argv.extend(["--log".into(), scratch.log_file().into(), "--log-format".into(), "json".into()]);
        argv.push(call.verb.into());
        argv.extend(call.args.iter().cloned());
        argv
    }
}
