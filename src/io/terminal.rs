//! The stdio of a process with a terminal: one stream in, one stream out, and the pseudo-terminal between them.
//!
//! We keep a slave of our own open while the process lives, so its terminal does not hang up whatever the process does
//! with it, and a read that fails is its end for good. The end of the stdin stream ends nothing but the feeding: a
//! terminal has no end of input (who types sends `^D`), and a hang-up would take the rest of the output with it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

use super::deletion::{deletion, Deletion, Kept};
use super::ends::{End, Ends};
use super::stdio::{OpenError, OutputDone, RelayTasks, Relays};
use super::streams::Streams;
use super::uri::StreamId;
use crate::sys::pty::{Master, Pty, Slave, WindowSize};
use crate::sys::socket::Socket;

/// The streams of a terminal that is not there yet. Dropping them closes them.
pub(super) struct TerminalStreams {
    stdin: Option<Socket>,
    stdout: Option<Socket>,
}

impl TerminalStreams {
    /// Keeps those of the streams that lead to and from the terminal.
    pub fn take(ends: Ends, streams: &mut Streams) -> Result<TerminalStreams, OpenError> {
        let mut take = |end, take: fn(&mut Streams, &StreamId) -> Option<Socket>| match end {
            // What is served cannot be asked for with a terminal.
            End::Open(_) | End::Served => Ok(None),
            End::Stream(id) => take(streams, &id).map(Some).ok_or(OpenError::NamedTwice(id)),
        };
        let stdin = take(ends.stdin, Streams::take)?;
        Ok(TerminalStreams { stdin, stdout: take(ends.stdout, Streams::take_output)? })
    }
}

/// The terminal of a process. Dropping it hangs up.
pub(super) struct Terminal {
    master: Master,
    /// Held until the process has been reaped.
    slave: Option<Slave>,
    open: Kept,
}

impl Terminal {
    /// Leaves it to the relays, which go on to the end of the output.
    pub fn release(self) {
        self.open.release();
    }
}

impl Relays {
    /// Begins to move bytes between the streams of a process and its terminal, if that is what it was to get.
    pub fn attach(&mut self, pty: Option<Pty>, tasks: &RelayTasks) {
        let (Some(streams), Some(Pty { master, slave })) = (self.terminal_streams.take(), pty) else {
            return;
        };
        let (open, deletion) = deletion();
        let screen = Screen { master: master.clone(), deletion };
        self.outputs.push(tasks.output(screen, streams.stdout));
        self.stdin = streams.stdin.map(|socket| tasks.input(socket, master.clone(), &self.closer));
        self.terminal = Some(Terminal { master, slave: Some(slave), open });
    }

    /// The process has been reaped: its terminal hangs up when nobody else has it open. Tells when the output is
    /// complete.
    pub fn exited(&mut self) -> OutputDone {
        if let Some(terminal) = &mut self.terminal {
            terminal.slave = None;
        }
        self.output_done()
    }

    /// Sets the size of the terminal; without one nothing is done.
    pub fn resize(&self, size: WindowSize) -> io::Result<()> {
        self.terminal.as_ref().map_or(Ok(()), |terminal| terminal.master.resize(size))
    }
}

/// What a terminal shows. It ends when that is all, or when the terminal was dropped: unlike a pipe, a terminal is not
/// read on for those who still write to it, since the hang-up tells them.
struct Screen {
    master: Master,
    deletion: Deletion,
}

impl AsyncRead for Screen {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if Pin::new(&mut this.deletion).poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.master).poll_read(cx, buf)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::io::streams::{StreamSettings, StreamTable};
    use crate::io::uri::StreamIds;

    #[tokio::test]
    async fn the_host_of_its_output_is_told_that_it_will_only_read() {
        let bound = Duration::from_secs(60);
        let settings = StreamSettings { ids: StreamIds::Numeric, handshake: bound, unclaimed: bound };
        let (table, ids) = (StreamTable::new(settings), [1, 2].map(StreamId::number));
        let [(stdin, _input), (stdout, _output)] = ids.clone().map(|id| table.attach(id).expect("a free id"));
        let mut streams = table.claim(&ids).expect("they wait");
        let [stdin_id, stdout_id] = ids.map(End::Stream);
        let ends = Ends { stdin: stdin_id, stdout: stdout_id, stderr: None, terminal: true };
        let _streams = TerminalStreams::take(ends, &mut streams).expect("each is named once");
        assert!(stdin.only_read.await.is_err());
        assert!(stdout.only_read.await.is_ok());
    }
}
