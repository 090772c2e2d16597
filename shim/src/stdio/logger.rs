//! A logging binary: its start as containerd starts it, and its end. Owns its process; never its output, which goes
//! where it likes.
//!
//! It must not lose what it has been given, so nothing kills it when the shim dies: its pipes then end, and so does it.

use std::io;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::{self, Receiver, Sender};
use tokio::process::{Child, Command};
use tokio::select;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{error_span, Instrument};

use super::uri::LoggerUri;

/// How long a logger may take to be ready, while Create waits. containerd's own shim waits for ever.
pub(super) const READY: Duration = Duration::from_secs(10);
/// How long a logger has after the end of its pipes to write what it holds.
const FLUSH: Duration = Duration::from_secs(5);
/// How long it has after SIGTERM. With the above, the 12 s of containerd's own shim, which a client that waits for a
/// Delete can bear.
const TERMINATE: Duration = Duration::from_secs(7);
/// How long a killed process may take to go; it is only longer if the machine is stuck in the kernel.
const REAP: Duration = Duration::from_secs(5);

/// Whose output a logger is to write.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    pub namespace: &'a str,
    /// That of the container, or of the exec.
    pub id: &'a str,
}

/// Why there is no logger. One that was started has been killed.
#[derive(Debug, thiserror::Error)]
pub enum LoggerError {
    #[error("make its pipes: {0}")]
    Pipes(#[source] io::Error),
    #[error("run it: {0}")]
    Spawn(#[source] io::Error),
    #[error("learn whether it is ready: {0}")]
    Ready(#[source] io::Error),
    /// Only a `binary-v2` is expected to say so.
    #[error("use it: it ended, or closed its descriptor 5, before it said that it was ready")]
    Ended,
    #[error("use it: it was not ready within {0:?}")]
    NotReady(Duration),
}

/// What the logger reads from.
#[derive(Debug)]
pub(super) struct Pipes {
    pub stdout: Sender,
    pub stderr: Sender,
}

/// A logger that is ready. When this is dropped it has to end: see [`Logger::finish`].
#[derive(Debug)]
pub(super) struct Logger {
    ending: DropGuard,
    attendant: JoinHandle<()>,
}

impl Logger {
    /// Starts the logger and waits until it is ready.
    pub async fn start(uri: &LoggerUri, owner: Owner<'_>) -> Result<(Logger, Pipes), LoggerError> {
        Logger::start_within(uri, owner, READY).await
    }

    pub(super) async fn start_within(
        uri: &LoggerUri,
        owner: Owner<'_>,
        within: Duration,
    ) -> Result<(Logger, Pipes), LoggerError> {
        let (ours, ready, its) = pipes().map_err(LoggerError::Pipes)?;
        let mut child = spawn(uri, owner, its).map_err(LoggerError::Spawn)?;
        if let Err(error) = readiness(ready, uri.says_ready, within).await {
            // An error means that it has ended already; what is not reaped here the runtime reaps later.
            let _ = child.start_kill();
            let _ = timeout(REAP, child.wait()).await;
            return Err(error);
        }
        let token = CancellationToken::new();
        let log = error_span!("logger", process = owner.id, program = %uri.program.display());
        let attendant = tokio::spawn(attend(child, token.clone()).instrument(log));
        Ok((Logger { ending: token.drop_guard(), attendant }, ours))
    }

    /// Waits until the logger, whose pipes must be closed by now, has ended: by itself, at SIGTERM, or at SIGKILL. One
    /// that hangs takes [`FLUSH`], [`TERMINATE`] and [`REAP`].
    pub async fn finish(self) {
        drop(self.ending);
        if let Err(error) = self.attendant.await {
            tracing::error!(%error, "the attendant of a logging binary failed");
        }
    }
}

/// Our ends, and those of the logger in the order of their numbers: stdout, stderr, ready.
fn pipes() -> io::Result<(Pipes, Receiver, [OwnedFd; 3])> {
    let (stdout, its_stdout) = pipe::pipe()?;
    let (stderr, its_stderr) = pipe::pipe()?;
    let (its_ready, ready) = pipe::pipe()?;
    let its = [its_stdout.into_blocking_fd()?, its_stderr.into_blocking_fd()?, its_ready.into_blocking_fd()?];
    Ok((Pipes { stdout, stderr }, ready, its))
}

/// Starts the program with nothing but what containerd's contract names: descriptors 3, 4 and 5, two variables, and
/// `/dev/null` for the rest.
///
/// Whoever calls holds both ends of three pipes, so the numbers 3 to 5 are all taken, and no descriptor of the fork
/// itself can be among those that are replaced.
fn spawn(uri: &LoggerUri, owner: Owner<'_>, its: [OwnedFd; 3]) -> io::Result<Child> {
    let mappings = its.into_iter().zip(3..).map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd });
    let mut command = Command::new(&uri.program);
    command
        .args(&uri.args)
        .env_clear()
        .env("CONTAINER_ID", owner.id)
        .env("CONTAINER_NAMESPACE", owner.namespace)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .fd_mappings(mappings.collect())
        .expect("no two of the numbers are the same");
    command.spawn()
}

async fn readiness(mut ready: Receiver, says_ready: bool, within: Duration) -> Result<(), LoggerError> {
    let read = timeout(within, ready.read(&mut [0])).await.map_err(|_| LoggerError::NotReady(within))?;
    match read.map_err(LoggerError::Ready)? {
        0 if says_ready => Err(LoggerError::Ended),
        _ => Ok(()),
    }
}

/// Reaps the logger, whenever it ends; once it has to end, sees to it.
async fn attend(mut child: Child, ending: CancellationToken) {
    select! {
        status = child.wait() => {
            tracing::info!(?status, "the logging binary ended");
            return;
        }
        () = ending.cancelled() => {}
    }
    for (signal, within) in [(None, FLUSH), (Some(Signal::SIGTERM), TERMINATE), (Some(Signal::SIGKILL), REAP)]
    {
        if let Some(signal) = signal {
            send(&child, signal);
        }
        if timeout(within, child.wait()).await.is_ok() {
            return;
        }
    }
}

fn send(child: &Child, signal: Signal) {
    tracing::warn!(%signal, "the logging binary does not end");
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    if let Some(Err(error)) = pid.map(|pid| kill(Pid::from_raw(pid), signal)) {
        tracing::warn!(%error, "the logging binary cannot be signalled");
    }
}
