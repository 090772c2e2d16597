//! One container as runc names it: its id, how runc is called for it, and every verb.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::invoke::Invocation;
use super::life::Life;
use super::resources::Resources;
use super::scratch::Scratch;
use super::{CheckpointOptions, Options, RuncError, Runtime};
use crate::reaper::{ExitOf, Pid, Process, Window};
use crate::sys::pty::Pty;
use crate::sys::signal::Signal;

/// A container that runc knows or is about to.
pub struct Container {
    pub(super) runtime: Runtime,
    id: String,
    options: Options,
    pub(super) life: Life,
}

/// A process that runc has just created, not yet claimed from the reaper.
pub struct Created {
    pub(super) pid: Pid,
    pub(super) window: Window,
    pub(super) console: Option<Pty>,
}

impl Created {
    /// Takes the process over from the reaper; its exit is delivered even if it has happened already. Also returns
    /// its console, if it was to have one.
    pub fn claim(self, verb: &'static str) -> Result<(Process, ExitOf, Option<Pty>), RuncError> {
        let unusable =
            |e: crate::reaper::NotOurs| RuncError::Result { verb, what: "process", reason: e.to_string() };
        let (process, exit) = self.window.claim(self.pid).map_err(unusable)?;
        Ok((process, exit, self.console))
    }
}

impl Container {
    pub(super) fn new(runtime: Runtime, id: String, options: Options) -> Container {
        Container { runtime, id, options, life: Life::new() }
    }

    /// The init has ended: runcs that are at work on the container, but for those that tear down, soon end too.
    pub fn init_ended(&self) {
        self.life.init_ended();
    }

    /// `runc create`. `stdio` becomes that of the container's init, and runc's own meanwhile; without it the init gets
    /// a terminal, as its spec has to say. When it fails nothing is left of the container; one of this id that runc
    /// knows already stays as it is.
    pub async fn create(&self, bundle: &Path, stdio: Option<[OwnedFd; 3]>) -> Result<Created, RuncError> {
        // What is there is not ours: `delete --force`, by which a failure is undone, would remove whatever it is.
        if self.root().join(&self.id).symlink_metadata().is_ok() {
            return Err(RuncError::Exists { id: self.id.clone() });
        }
        let scratch = self.scratch("create")?;
        let mut call = Invocation::new("create", self.runtime.settings.deadlines.create);
        call.arg("--bundle").arg(bundle).arg("--pid-file").arg(scratch.pid_file());
        if self.runtime.settings.no_pivot || self.options.no_pivot {
            call.arg("--no-pivot");
        }
        if self.options.no_new_keyring {
            call.arg("--no-new-keyring");
        }
        let created = self.leave_process(call, &scratch, stdio).await;
        if created.is_err() {
            self.roll_back().await;
        }
        created
    }

    /// Removes whatever a create that failed has left. Its own failure is logged: the caller has an error already.
    pub async fn roll_back(&self) {
        if let Err(error) = self.delete().await {
            tracing::warn!(container = self.id, %error, "cannot roll back a create");
        }
    }

    /// `runc exec`, detached: starts one more process in the container. `process` is its OCI process
    /// spec; `stdio` as for a create.
    pub async fn exec(&self, process: &[u8], stdio: Option<[OwnedFd; 3]>) -> Result<Created, RuncError> {
        let _at_work = self.life.work("exec").await?;
        let scratch = self.scratch("exec")?;
        let path = scratch.write("process.json", process).map_err(start_failed("exec"))?;
        let mut call = Invocation::new("exec", self.runtime.settings.deadlines.create);
        call.arg("--process").arg(path).arg("--detach").arg("--pid-file").arg(scratch.pid_file());
        self.leave_process(call, &scratch, stdio).await
    }

    /// `runc start`.
    pub async fn start(&self) -> Result<(), RuncError> {
        self.change("start", &[]).await
    }

    /// `runc pause`: freezes all processes of the container.
    pub async fn pause(&self) -> Result<(), RuncError> {
        self.change("pause", &[]).await
    }

    /// `runc resume`: thaws them.
    pub async fn resume(&self) -> Result<(), RuncError> {
        self.change("resume", &[]).await
    }

    /// `runc update`: other limits for the container's cgroup.
    pub async fn update(&self, resources: &Resources) -> Result<(), RuncError> {
        let scratch = self.scratch("update")?;
        let path = scratch.write("resources.json", resources.as_bytes()).map_err(start_failed("update"))?;
        self.change("update", &["--resources".into(), path.into()]).await
    }

    /// `runc checkpoint` into the folder `image`, within `limit` and the bound there is anyway.
    pub async fn checkpoint(
        &self,
        image: &Path,
        options: &CheckpointOptions,
        limit: Option<Duration>,
    ) -> Result<(), RuncError> {
        let _at_work = self.life.work("checkpoint").await?;
        let scratch = self.scratch("checkpoint")?;
        let bound = self.runtime.settings.deadlines.checkpoint;
        let mut call = Invocation::new("checkpoint", limit.unwrap_or(bound).min(bound));
        let chosen = options.work_path.as_deref().or(self.options.criu_work_path.as_deref());
        let work = chosen.map_or_else(|| scratch.folder("criu"), Path::to_owned);
        call.arg("--image-path").arg(image).arg("--work-path").arg(work);
        call.args(options.args());
        self.run(call).await.map(drop)
    }

    /// `runc kill --all`: signals every process of the container's cgroup.
    pub async fn kill_all(&self, signal: Signal) -> Result<(), RuncError> {
        let _at_work = self.life.work("kill").await?;
        let mut call = Invocation::new("kill", self.runtime.settings.deadlines.query);
        call.arg("--all");
        call.after_id(signal.to_string());
        self.run(call).await.map(drop)
    }

    /// `runc delete --force`, once nothing else is at work on it: a container that runc knows nothing of is deleted already.
    pub async fn delete(&self) -> Result<(), RuncError> {
        let mut call = Invocation::new("delete", self.runtime.settings.deadlines.change);
        call.arg("--force");
        let deleting = async {
            match self.run(call).await {
                Err(error) if error.is_not_found() => Ok(()),
                other => other.map(drop),
            }
        };
        self.life.delete(deleting).await
    }

    /// `runc ps`: the pids of every process of the container, as this machine numbers them.
    pub async fn ps(&self) -> Result<Vec<u32>, RuncError> {
        let _at_work = self.life.work("ps").await?;
        let mut call = Invocation::new("ps", self.runtime.settings.deadlines.query);
        call.arg("--format").arg("json");
        let printed = self.run(call).await?;
        pids(&printed).map_err(|reason| RuncError::Result { verb: "ps", what: "list", reason })
    }

    async fn change(&self, verb: &'static str, args: &[OsString]) -> Result<(), RuncError> {
        let _at_work = self.life.work(verb).await?;
        let mut call = Invocation::new(verb, self.runtime.settings.deadlines.change);
        call.args(args);
        self.run(call).await.map(drop)
    }

    /// Where runc keeps the state of this container, in a folder named after it.
    fn root(&self) -> &Path {
        self.options.root.as_ref().unwrap_or(&self.runtime.settings.root)
    }

    pub(super) fn scratch(&self, verb: &'static str) -> Result<Scratch, RuncError> {
        Scratch::new(&self.runtime.settings.scratch).map_err(start_failed(verb))
    }

    /// The whole command line of one invocation.
    pub(super) fn command(&self, call: &Invocation, scratch: &Scratch) -> Vec<OsString> {
        let mut argv: Vec<OsString> = vec![self.runtime.settings.binary.clone().into()];
        argv.extend(["--root".into(), self.root().into()]);
        argv.extend(["--log".into(), scratch.log_file().into(), "--log-format".into(), "json".into()]);
        if self.options.systemd_cgroup {
            argv.push("--systemd-cgroup".into());
        }
        argv.push(call.verb.into());
        argv.extend(call.args.iter().cloned());
        argv.push(self.id.clone().into());
        argv.extend(call.after_id.iter().cloned());
        argv
    }
}

/// The list that `runc ps` prints, which is `null` for a container without processes.
fn pids(printed: &[u8]) -> Result<Vec<u32>, String> {
    let pid = |value: &Value| value.as_u64().and_then(|pid| u32::try_from(pid).ok());
    let pids = match serde_json::from_slice(printed).map_err(|e| e.to_string())? {
        Value::Null => Some(Vec::new()),
        Value::Array(values) => values.iter().map(pid).collect(),
        _ => None,
    };
    pids.ok_or_else(|| "it is no list of pids".to_owned())
}

fn start_failed(verb: &'static str) -> impl Fn(std::io::Error) -> RuncError {
    move |source| RuncError::Start { verb, source }
}
