//! The stdio of one process: the three ends it is started with, and the relays behind them.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::relay::{self, StreamClose};
use super::streams::Streams;
use super::uri::{StreamId, Uri};
use crate::sys::process::{dev_null, pipe};
use crate::sys::socket::Socket;
use crate::tracked::Tracked;

/// Where the three go, as a request said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StdioSpec {
    pub stdin: Uri,
    pub stdout: Uri,
    pub stderr: Uri,
}

impl StdioSpec {
    /// The streams it names, each once.
    pub fn streams(&self) -> impl Iterator<Item = StreamId> + Clone {
        let stream = |uri| match uri {
            Uri::Stream(id) => Some(id),
            Uri::Null => None,
        };
        let shared = (self.stderr != self.stdout).then_some(self.stderr);
        [Some(self.stdin), Some(self.stdout), shared].into_iter().flatten().filter_map(stream)
    }
}

/// Whose the pipes of a container's processes are: a user there may open `/dev/stdout` again only if it is theirs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

/// Why the ends cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("stream {0} is named twice")]
    NamedTwice(StreamId),
    #[error("open stdio: {0}")]
    Io(#[from] io::Error),
}

/// What is between a process and its streams until the process has been started.
pub struct Stdio {
    /// stdin, stdout and stderr of the process.
    pub ends: [OwnedFd; 3],
    pub pending: PendingRelays,
}

/// Relays that do not run yet. Dropping them closes the streams.
pub struct PendingRelays {
    stdin: Option<(Socket, Sender)>,
    outputs: Vec<(Receiver, Socket)>,
}

impl Stdio {
    /// Opens pipes for what goes to a stream, and `/dev/null` (for reading and writing) for the rest.
    pub fn open(spec: StdioSpec, mut streams: Streams, owner: Owner) -> Result<Stdio, OpenError> {
        let mut outputs = Vec::new();
        let (stdin, stdin_relay) = match spec.stdin {
            Uri::Null => (dev_null()?, None),
            Uri::Stream(id) => {
                let socket = streams.take(id).ok_or(OpenError::NamedTwice(id))?;
                let (read, write) = owned_pipe(owner)?;
                (read, Some((socket, Sender::from_owned_fd(write)?)))
            }
        };
        let stdout = output(spec.stdout, owner, &mut streams, &mut outputs)?;
        // One stream for both is one pipe for both: the order of what the process writes is kept.
        let stderr = match spec.stderr {
            Uri::Stream(_) if spec.stderr == spec.stdout => stdout.try_clone()?,
            uri => output(uri, owner, &mut streams, &mut outputs)?,
        };
        Ok(Stdio { ends: [stdin, stdout, stderr], pending: PendingRelays { stdin: stdin_relay, outputs } })
    }
}

/// Both ends are one file to the kernel (pipe(7)).
fn owned_pipe(owner: Owner) -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe()?;
    if owner != Owner::default() {
        std::os::unix::fs::fchown(&read, Some(owner.uid), Some(owner.gid))?;
    }
    Ok((read, write))
}

fn output(
    uri: Uri,
    owner: Owner,
    streams: &mut Streams,
    relays: &mut Vec<(Receiver, Socket)>,
) -> Result<OwnedFd, OpenError> {
    let Uri::Stream(id) = uri else { return Ok(dev_null()?) };
    let socket = streams.take(id).ok_or(OpenError::NamedTwice(id))?;
    let (read, write) = owned_pipe(owner)?;
    relays.push((Receiver::from_owned_fd(read)?, socket));
    Ok(write)
}

impl PendingRelays {
    /// Begins to move bytes.
    pub fn start(self, tasks: &RelayTasks) -> Relays {
        let stdin = self.stdin.map(|(socket, pipe)| tasks.tasks.spawn(relay::input(socket, pipe)));
        let start_output = |(pipe, socket)| {
            let (tx, done) = watch::channel(false);
            let relay = relay::output(pipe, socket, tasks.close, tx, tasks.stopping.subscribe());
            Output { task: tasks.tasks.spawn(relay), done }
        };
        Relays { stdin, outputs: self.outputs.into_iter().map(start_output).collect(), close: tasks.close }
    }
}

/// All relays of the daemon; a handle. They are tracked here, so that a stop can wait for the last byte.
#[derive(Clone)]
pub struct RelayTasks {
    close: StreamClose,
    tasks: Tracked,
    stopping: Arc<watch::Sender<bool>>,
}

impl RelayTasks {
    pub fn new(close: StreamClose) -> RelayTasks {
        RelayTasks { close, tasks: Tracked::default(), stopping: Arc::new(watch::Sender::new(false)) }
    }

    /// Waits until what is still under way has been taken by its readers, but no longer than `limit`.
    pub async fn finish(&self, limit: Duration) {
        self.stopping.send_replace(true);
        if !self.tasks.finish(limit).await {
            tracing::warn!("output streams were not taken in time");
        }
    }
}

struct Output {
    task: AbortHandle,
    done: watch::Receiver<bool>,
}

/// The relays of one process. Dropping them closes its streams; behind a backend that needs it, an output whose bytes
/// were all handed over is left to drain first.
pub struct Relays {
    stdin: Option<AbortHandle>,
    outputs: Vec<Output>,
    close: StreamClose,
}

/// Tells when the output of a process is complete.
#[derive(Clone)]
pub struct OutputDone(Vec<watch::Receiver<bool>>);

impl OutputDone {
    /// Waits until every byte was handed to its socket, but no longer than `limit`: a child that the process left
    /// behind may hold the pipe open for ever. Says whether it is complete.
    pub async fn within(mut self, limit: Duration) -> bool {
        let all = async {
            for done in &mut self.0 {
                // An error means that the relay is gone: nothing more will come from it.
                let _ = done.wait_for(|done| *done).await;
            }
        };
        tokio::time::timeout(limit, all).await.is_ok()
    }
}

impl Relays {
    /// Ends the relay of stdin and leaves the outputs to [`RelayTasks::finish`]: the daemon stops.
    pub fn release(mut self) {
        self.close_stdin();
        self.outputs.clear();
    }

    fn close_stdin(&self) {
        if let Some(stdin) = &self.stdin {
            stdin.abort();
        }
    }

    /// Tells when the output is complete.
    pub fn output_done(&self) -> OutputDone {
        OutputDone(self.outputs.iter().map(|output| output.done.clone()).collect())
    }
}

impl Drop for Relays {
    fn drop(&mut self) {
        self.close_stdin();
        let lingers = |output: &&Output| self.close == StreamClose::Eof && *output.done.borrow();
        self.outputs.iter().filter(|output| !lingers(output)).for_each(|output| output.task.abort());
    }
}
