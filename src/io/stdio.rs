//! The stdio of one process: the three ends it is started with, and the relays behind them.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::{watch, Semaphore};
use tokio::task::AbortHandle;

use super::closing::StdinCloser;
use super::deletion::{deletion, Kept};
use super::ends::{End, Ends};
use super::relay::{self, Signals, StreamClose};
use super::rpc::{self, Served, ServedStdin};
use super::streams::Streams;
use super::terminal::{Terminal, TerminalStreams};
use super::uri::StreamId;
use crate::blocking::BlockingError;
use crate::flag::raised;
use crate::sys::process::{pipe, widen};
use crate::sys::socket::Socket;
use crate::tracked::Tracked;

/// What a pipe of a process holds: as much as its relay takes at once, so that neither waits for every turn of the other.
/// It is memory of the kernel, used by a process that writes faster than its host reads.
pub(super) const PIPE_BYTES: usize = relay::RELAY_BYTES;

/// Relays that may go on after their process was deleted, until a late reader has taken what is left: up to 512 KiB
/// each, in the pipe and on the way. Beyond that it is thrown away.
const LINGERING_MAX: usize = 128;

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
    #[error("open {path}: {source}", path = path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Blocking(#[from] BlockingError),
    #[error("open stdio: {0}")]
    Io(#[from] io::Error),
}

/// What is between a process and its streams until the process has been started.
pub struct Stdio {
    /// stdin, stdout and stderr of the process; `None` if they are to be a terminal.
    pub ends: Option<[OwnedFd; 3]>,
    pub pending: PendingRelays,
    /// What the StdIO service reaches, from now on.
    pub served: Served,
}

/// Relays that do not run yet, but for those of the StdIO service. Dropping them closes the streams.
#[derive(Default)]
pub struct PendingRelays {
    stdin: Option<(Socket, Sender)>,
    served_stdin: Option<ServedStdin>,
    closer: StdinCloser,
    outputs: Vec<(Receiver, Socket)>,
    served_outputs: Vec<Output>,
    terminal: Option<TerminalStreams>,
}

impl Stdio {
    /// Opens pipes for what goes to a stream or to the StdIO service. A terminal is opened by the runtime, later.
    pub fn open(
        ends: Ends,
        mut streams: Streams,
        owner: Owner,
        tasks: &RelayTasks,
    ) -> Result<Stdio, OpenError> {
        if ends.terminal {
            let terminal = Some(TerminalStreams::take(ends, &mut streams)?);
            let pending = PendingRelays { terminal, ..Default::default() };
            return Ok(Stdio { ends: None, pending, served: Served::default() });
        }
        let mut opening = Opening { streams, owner, tasks, pending: PendingRelays::default() };
        let stdin = opening.stdin(ends.stdin)?;
        let stdout = opening.output(ends.stdout)?;
        let stderr = match ends.stderr {
            // One pipe, or one open file, for both: the order of what the process writes is kept.
            None => (stdout.0.try_clone()?, None),
            Some(end) => opening.output(end)?,
        };
        let served = Served { stdin: stdin.1, stdout: stdout.1, stderr: stderr.1 };
        Ok(Stdio { ends: Some([stdin.0, stdout.0, stderr.0]), pending: opening.pending, served })
    }
}

/// What is at hand while the ends of a process are opened, and the relays so far.
struct Opening<'a> {
    streams: Streams,
    owner: Owner,
    tasks: &'a RelayTasks,
    pending: PendingRelays,
}

impl Opening<'_> {
    fn stdin(&mut self, end: End) -> Result<(OwnedFd, Option<rpc::Input>), OpenError> {
        let socket = match end {
            End::Open(fd) => return Ok((fd, None)),
            End::Stream(id) => Some(self.streams.take(&id).ok_or(OpenError::NamedTwice(id))?),
            End::Served => None,
        };
        let (read, write) = owned_pipe(self.owner)?;
        let pipe = Sender::from_owned_fd(write)?;
        let Some(socket) = socket else {
            let (input, relay) = rpc::serve_stdin(pipe, &self.tasks.tasks);
            self.pending.served_stdin = Some(relay);
            return Ok((read, Some(input)));
        };
        self.pending.stdin = Some((socket, pipe));
        Ok((read, None))
    }

    fn output(&mut self, end: End) -> Result<(OwnedFd, Option<rpc::Output>), OpenError> {
        let socket = match end {
            End::Open(fd) => return Ok((fd, None)),
            End::Stream(id) => Some(self.streams.take_output(&id).ok_or(OpenError::NamedTwice(id))?),
            End::Served => None,
        };
        let (read, write) = owned_pipe(self.owner)?;
        let pipe = Receiver::from_owned_fd(read)?;
        let Some(socket) = socket else {
            let (done_tx, done) = watch::channel(false);
            let (kept, deletion) = deletion();
            let stopping = self.tasks.stopping.subscribe();
            let output = rpc::serve_output(pipe, done_tx, deletion, stopping, &self.tasks.tasks);
            self.pending.served_outputs.push(Output { done, kept });
            return Ok((write, Some(output)));
        };
        self.pending.outputs.push((pipe, socket));
        Ok((write, None))
    }
}

/// Both ends are one file to the kernel (pipe(7)).
fn owned_pipe(owner: Owner) -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe()?;
    if let Err(error) = widen(&read, PIPE_BYTES) {
        // It does its work all the same.
        tracing::debug!(%error, "cannot widen a pipe");
    }
    if owner != Owner::default() {
        std::os::unix::fs::fchown(&read, Some(owner.uid), Some(owner.gid))?;
    }
    Ok((read, write))
}

impl PendingRelays {
    /// Ends stdin, before the relays run or later.
    pub fn stdin_closer(&self) -> StdinCloser {
        self.closer.clone()
    }

    /// Begins to move bytes; those of a terminal once it is attached.
    pub fn start(self, tasks: &RelayTasks) -> Relays {
        let stdin = self.stdin.map(|(socket, pipe)| tasks.input(socket, pipe, &self.closer));
        let outputs = self.outputs.into_iter().map(|(pipe, socket)| tasks.output(pipe, Some(socket)));
        Relays {
            stdin,
            _served_stdin: self.served_stdin,
            closer: self.closer,
            outputs: outputs.chain(self.served_outputs).collect(),
            terminal_streams: self.terminal,
            terminal: None,
        }
    }
}

/// How relays end.
#[derive(Debug, Clone, Copy)]
pub struct RelaySettings {
    pub close: StreamClose,
    /// How long a stdin whose end was asked for must be silent before it ends.
    pub stdin_idle: Duration,
}

/// All relays of the daemon; a handle. They are tracked here, so that a stop can wait for the last byte.
#[derive(Clone)]
pub struct RelayTasks {
    settings: RelaySettings,
    tasks: Tracked,
    stopping: Arc<watch::Sender<bool>>,
    lingering: Arc<Semaphore>,
}

impl RelayTasks {
    pub fn new(settings: RelaySettings) -> RelayTasks {
        RelayTasks {
            settings,
            tasks: Tracked::default(),
            stopping: Arc::new(watch::Sender::new(false)),
            lingering: Arc::new(Semaphore::new(LINGERING_MAX)),
        }
    }

    /// Begins to relay one input.
    pub(super) fn input(
        &self,
        socket: Socket,
        to: impl AsyncWrite + Unpin + Send + 'static,
        closer: &StdinCloser,
    ) -> AbortHandle {
        // One kind of relay for pipes and terminals: the code of each would be some kilobytes.
        let to: Box<dyn AsyncWrite + Unpin + Send> = Box::new(to);
        self.tasks.spawn(relay::input(socket, to, closer.clone(), self.settings.stdin_idle))
    }

    /// Begins to relay one output. Without a socket it is read all the same, so that the process never blocks on it.
    pub(super) fn output(
        &self,
        from: impl AsyncRead + Unpin + Send + 'static,
        socket: Option<Socket>,
    ) -> Output {
        let (done_tx, done) = watch::channel(false);
        let (kept, deletion) = deletion();
        let (stopping, lingering) = (self.stopping.subscribe(), self.lingering.clone());
        let signals = Signals { done: done_tx, deletion, stopping, lingering };
        let from: Box<dyn AsyncRead + Unpin + Send> = Box::new(from);
        match socket {
            Some(socket) => self.tasks.spawn(relay::output(from, socket, self.settings.close, signals)),
            None => self.tasks.spawn(relay::output_for_nobody(from, signals)),
        };
        Output { done, kept }
    }

    /// Waits until what is still under way has been taken by its readers, but no longer than `limit`.
    pub async fn finish(&self, limit: Duration) {
        self.stopping.send_replace(true);
        if !self.tasks.finish(limit).await {
            tracing::warn!("output streams were not taken in time");
        }
    }
}

pub(super) struct Output {
    done: watch::Receiver<bool>,
    kept: Kept,
}

/// The relays of one process. Dropping them ends its streams: each output once what is left of it was taken. The pipes
/// of outputs are read on for whoever still holds them.
pub struct Relays {
    pub(super) stdin: Option<AbortHandle>,
    _served_stdin: Option<ServedStdin>,
    pub(super) closer: StdinCloser,
    pub(super) outputs: Vec<Output>,
    /// What waits for its terminal.
    pub(super) terminal_streams: Option<TerminalStreams>,
    pub(super) terminal: Option<Terminal>,
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
                raised(done).await;
            }
        };
        tokio::time::timeout(limit, all).await.is_ok()
    }
}

impl Relays {
    /// Ends the relay of stdin and leaves the outputs to [`RelayTasks::finish`]: the daemon stops.
    pub fn release(mut self) {
        self.outputs.drain(..).for_each(|output| output.kept.release());
        self.terminal.take().into_iter().for_each(Terminal::release);
    }

    /// Ends stdin, in its own time.
    pub fn stdin_closer(&self) -> StdinCloser {
        self.closer.clone()
    }

    /// Tells when the output is complete.
    pub fn output_done(&self) -> OutputDone {
        OutputDone(self.outputs.iter().map(|output| output.done.clone()).collect())
    }
}

impl Drop for Relays {
    fn drop(&mut self) {
        if let Some(stdin) = &self.stdin {
            stdin.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;

    use nix::unistd::{getegid, geteuid};

    use super::*;

    #[test]
    fn the_pipes_of_a_process_belong_to_the_owner_that_was_asked_for() {
        // Only root gives files away.
        let own = Owner { uid: geteuid().as_raw(), gid: getegid().as_raw() };
        let owner = if geteuid().is_root() { Owner { uid: 1000, gid: 1001 } } else { own };
        let (read, write) = owned_pipe(owner).expect("make a pipe");
        for end in [read, write] {
            let metadata = File::from(end).metadata().expect("look at a pipe");
            assert_eq!(Owner { uid: metadata.uid(), gid: metadata.gid() }, owner);
        }
    }
}
