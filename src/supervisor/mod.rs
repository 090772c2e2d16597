//! Keeps the one guest agent of the VM alive: an optional binary of the host's, started once there is a container and
//! ended with the VM. It knows nothing of containers but the bundle of the first.
//!
//! One task owns the agent for the life of the VM: no request starts it, waits for it or ends it.

mod backoff;
mod log;
mod places;
#[cfg(test)]
mod tests;

use std::fs;
use std::future::{pending, Future};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use tokio::net::unix::pipe::Receiver;
use tokio::sync::watch;
use tokio::time::{sleep, timeout, Instant};

use crate::blocking::{BlockingError, Disks};
use crate::flag::raised;
use crate::reaper::{Child, Reaper, ReaperGone};
use crate::sys::process::{dev_null, pipe, Program};
use crate::sys::rlimit::Limit;
use crate::sys::signal::Signal;
use crate::tracked::Tracked;
use backoff::Backoff;
use places::{InstallError, Places};

/// How long the agent has to end by itself at the stop: half of the 10 s within which the VM is to be off.
const GRACE: Duration = Duration::from_secs(5);

/// How long a killed agent may take to end; one that hangs in the kernel is given up.
const KILLED: Duration = Duration::from_secs(2);

/// How long what it printed last may take to be written, when something else holds its output open.
const LAST_OUTPUT: Duration = Duration::from_secs(1);

/// The whole stop, which is the sum of its steps unless something is wrong with them.
const STOP: Duration = Duration::from_secs(9);

/// Where the agent finds the root file system of the first container.
const OVERLAY_ROOT: &str = "SPINBOX_OVERLAY_ROOT";

/// How the agent is run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The binary, in place of the search for one.
    pub binary: Option<PathBuf>,
    /// It is started so long after boot, if no container is created before.
    pub delay: Duration,
    /// All other paths are beneath it: `/` in PID 1.
    pub root: PathBuf,
    /// RLIMIT_NOFILE that it starts with.
    pub file_limit: Limit,
}

/// Whoever keeps the agent alive.
pub struct Supervisor {
    stop: watch::Sender<bool>,
    task: Tracked,
}

/// Begins to watch for the agent, once the guest has `booted`. `creates` changes at every Create; its value is the bundle
/// of the first container.
///
/// # Errors
/// Those of pipe(2): the agent's output needs one.
pub fn start(
    settings: Settings,
    reaper: Reaper,
    disks: Disks,
    creates: watch::Receiver<Option<PathBuf>>,
    booted: impl Future<Output = ()> + Send + 'static,
) -> io::Result<Supervisor> {
    let (read, output) = pipe()?;
    let places = Places::beneath(&settings.root, settings.binary.clone());
    let relay = log::relay(Receiver::from_owned_fd(read)?, places.log.clone(), disks.clone());
    let agent = Agent { settings, places, reaper, disks, creates, output, child: None };
    let (stop, stopping) = watch::channel(false);
    let task = Tracked::default();
    task.spawn(run(agent, relay, booted, stopping));
    Ok(Supervisor { stop, task })
}

impl Supervisor {
    /// Ends the agent: SIGTERM, and SIGKILL to it and its children after [`GRACE`]. Takes no longer than [`STOP`].
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        if !self.task.finish(STOP).await {
            tracing::error!("the supervisor agent was not stopped in time");
        }
    }
}

async fn run(
    agent: Agent,
    relay: impl Future<Output = ()>,
    booted: impl Future<Output = ()>,
    stopping: watch::Receiver<bool>,
) {
    let (mut life, mut relay) = (pin!(agent.live(booted, stopping)), pin!(relay));
    tokio::select! {
        () = &mut life => {
            // The agent's end of the pipe is closed, so this ends unless something it left behind has one.
            let _ = timeout(LAST_OUTPUT, relay).await;
        }
        // The pipe cannot be read any more; the agent goes on without.
        () = &mut relay => life.await,
    }
}

/// Why the agent could not be started.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Look(#[from] BlockingError),
    #[error(transparent)]
    Install(#[from] InstallError),
    #[error("start {path}", path = path.display())]
    Spawn { path: PathBuf, source: io::Error },
}

/// The agent, whether it runs or not.
struct Agent {
    settings: Settings,
    places: Places,
    reaper: Reaper,
    disks: Disks,
    creates: watch::Receiver<Option<PathBuf>>,
    /// The end of the pipe that it prints to, one for all its lives.
    output: OwnedFd,
    child: Option<Child>,
}

impl Agent {
    async fn live(mut self, booted: impl Future<Output = ()>, mut stopping: watch::Receiver<bool>) {
        let alive = async {
            booted.await;
            self.keep_alive().await;
        };
        tokio::select! {
            () = alive => {}
            () = raised(&mut stopping) => {}
        }
        self.end().await;
    }

    /// Returns when it has given up. May be dropped at any time: [`end`](Self::end) then ends what runs.
    async fn keep_alive(&mut self) {
        self.due().await;
        let mut backoff = Backoff::default();
        loop {
            let began = Instant::now();
            match self.start().await {
                Ok(true) => {
                    if self.ended().await.is_err() {
                        return;
                    }
                }
                Ok(false) => {
                    tracing::debug!("there is no supervisor agent");
                    self.next_create().await;
                    continue;
                }
                Err(error) => report(&error),
            }
            let Some(pause) = backoff.pause(began.into_std(), Instant::now().into_std()) else {
                tracing::error!("the supervisor agent is given up: it ends again and again");
                return;
            };
            tracing::info!(pause_s = pause.as_secs(), "the supervisor agent is to be restarted");
            sleep(pause).await;
        }
    }

    /// Waits for the first container or the delay.
    async fn due(&mut self) {
        let delayed = sleep(self.settings.delay);
        tokio::select! {
            () = self.next_create() => {}
            () = delayed => {}
        }
    }

    async fn next_create(&mut self) {
        if self.creates.changed().await.is_err() {
            // There will be none.
            pending().await
        }
    }

    /// Starts it; `false` if there is none.
    async fn start(&mut self) -> Result<bool, StartError> {
        let places = self.places.clone();
        let look = move || places.install();
        let Some(path) = self.disks.run("looking for the supervisor agent", look).await?? else {
            return Ok(false);
        };
        match self.spawn(&path) {
            Ok(child) => {
                let pid = child.process.pid;
                tracing::info!(%pid, path = %path.display(), "the supervisor agent is started");
                self.write_pid_file(&child);
                self.child = Some(child);
                Ok(true)
            }
            Err(source) => Err(StartError::Spawn { path, source }),
        }
    }

    fn spawn(&self, path: &Path) -> io::Result<Child> {
        let stdio = [dev_null()?, self.output.try_clone()?, self.output.try_clone()?];
        let mut program = Program::new(&[path.into()], stdio, self.settings.file_limit)?;
        let first = self.creates.borrow().clone();
        if let Some(bundle) = first {
            program.env(OVERLAY_ROOT, bundle.join("rootfs").as_os_str())?;
        }
        self.reaper.spawn_with_group(&program)
    }

    /// Waits for the end of what was started.
    async fn ended(&mut self) -> Result<(), ReaperGone> {
        let Some(child) = &mut self.child else { return Ok(()) };
        let reaped = child.exit.wait().await;
        let pid = child.process.pid;
        match (&reaped, child.exec.failure()) {
            (Ok(_), Some(error)) => tracing::warn!(%pid, %error, "the supervisor agent cannot be run"),
            (Ok(reaped), None) => tracing::warn!(%pid, exit = %reaped.exit, "the supervisor agent has ended"),
            (Err(_), _) => {
                // Nobody would see its end any more. ESRCH: it has ended by itself.
                let _ = child.process.signal(Signal::KILL);
            }
        }
        self.forget();
        reaped.map(drop)
    }

    /// Ends it, if it runs.
    async fn end(&mut self) {
        let Some(child) = &mut self.child else { return };
        let pid = child.process.pid;
        // ESRCH: it has ended by itself.
        let _ = child.process.signal(Signal::TERM);
        if timeout(GRACE, child.exit.wait()).await.is_err() {
            tracing::warn!(%pid, "the supervisor agent is killed: it does not end by itself");
            self.reaper.kill_group(child);
            if timeout(KILLED, child.exit.wait()).await.is_err() {
                return tracing::error!(%pid, "the supervisor agent does not die");
            }
        }
        tracing::info!(%pid, "the supervisor agent is stopped");
        self.forget();
    }

    /// On the thread of the runtime, as `/run` is memory; a host reads it to find the agent, and nobody else.
    fn write_pid_file(&self, child: &Child) {
        let path = &self.places.pid_file;
        let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
        let written = folder.and_then(|()| fs::write(path, format!("{}\n", child.process.pid)));
        if let Err(error) = written {
            tracing::warn!(%error, path = %path.display(), "cannot write the pid file of the supervisor agent");
        }
    }

    /// It has ended: the pid is another's from now on, if anyone's.
    fn forget(&mut self) {
        self.child = None;
        // If it could not be written there is nothing to remove.
        let _ = fs::remove_file(&self.places.pid_file);
    }
}

fn report(error: &StartError) {
    let error: &(dyn std::error::Error + 'static) = error;
    tracing::warn!(error, "cannot start the supervisor agent");
}
