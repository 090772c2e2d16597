//! Moving bytes: from a process's pipe or terminal to its stream, and back.
//!
//! One task per direction, each with one buffer of its own: a stream that stalls holds up its process and nothing else.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{watch, Semaphore};

use super::closing::StdinCloser;
use super::deletion::Deletion;
use crate::flag::raised;
use crate::sys::socket::Socket;

/// Bytes of one message: what vsock carries at full speed (4 KiB reach a third of it).
pub(super) const BLOCK_BYTES: usize = 64 * 1024;

/// Bytes that a relay moves at once: all that a pipe holds. Each read wakes the process, which takes the processor until
/// the pipe is full again; on one processor that is what a relay costs most (docs/PERFORMANCE.md).
pub(super) const RELAY_BYTES: usize = 256 * 1024;

/// What a relay begins with: most processes say little, and there may be thousands of them.
const FIRST_BYTES: usize = 4 * 1024;

/// After a Delete a pipe that has given nothing for so long is empty: one turn of the runtime's driver would do.
const LATE_IDLE: Duration = Duration::from_millis(100);

/// How long a reader may take nothing of what a deleted process has left: nobody else knows of it any more.
const LATE_MAX: Duration = Duration::from_secs(600);

/// How long a stream whose process was deleted waits, half-closed, for its peer to close: a plain close could overtake
/// what is under way.
const LATE_CLOSE: Duration = Duration::from_secs(10);

/// How a stream is ended once its last byte was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamClose {
    /// Half-close; the connection itself is closed when the peer has closed it, or at Delete.
    Delete,
    /// For vhost-device-vsock, which hides a half-close and can drop what a plain close overtakes: repeat a full
    /// shutdown until the peer has taken everything, then close.
    Eof,
}

/// What an output relay is told by others, and what it tells.
pub struct Signals {
    /// Set to true when every byte was handed over.
    pub done: watch::Sender<bool>,
    pub deletion: Deletion,
    /// Turns true when the daemon stops: then only output that somebody may still take is waited for.
    pub stopping: watch::Receiver<bool>,
    /// One for each relay that may go on after its process was deleted.
    pub lingering: Arc<Semaphore>,
}

/// How a copy came to its end.
enum Copied {
    /// All that the process wrote was handed over.
    All,
    /// All that it had written when it was deleted; somebody else may still write.
    Rest,
    /// The reader is gone, or too many have not read.
    NoReader,
}

/// Relays output until the end of the pipe, then ends the stream.
///
/// A process that is deleted before its output was taken does not take it along: what is in the pipe by then goes on its
/// way. When the reader goes away the pipe is read to its end all the same: whoever holds it must neither block nor be
/// killed by SIGPIPE.
pub async fn output(
    mut pipe: impl AsyncRead + Unpin,
    mut socket: Socket,
    close: StreamClose,
    mut signals: Signals,
) {
    match copy(&mut pipe, &mut socket, &mut signals).await {
        Copied::All => {
            drop(pipe);
            signals.done.send_replace(true);
            end(socket, close, &mut signals).await;
        }
        Copied::Rest => {
            let lingering = signals.lingering.clone();
            let end = async {
                let _turn = lingering.try_acquire();
                end_late(socket, close).await;
            };
            tokio::join!(end, output_for_nobody(pipe, signals));
        }
        Copied::NoReader => {
            drop(socket);
            output_for_nobody(pipe, signals).await;
        }
    }
}

/// Reads output to its end, or until the daemon stops.
pub async fn output_for_nobody(pipe: impl AsyncRead + Unpin, mut signals: Signals) {
    tokio::select! {
        () = discard(pipe) => {}
        () = raised(&mut signals.stopping) => {}
    }
    signals.done.send_replace(true);
}

/// Copies to the end of the pipe; once the process is deleted, only what the pipe holds by then.
async fn copy(pipe: &mut (impl AsyncRead + Unpin), socket: &mut Socket, signals: &mut Signals) -> Copied {
    let mut block = Block::of(RELAY_BYTES);
    loop {
        let read = tokio::select! {
            biased;
            () = &mut signals.deletion => return copy_rest(&mut block, 0, pipe, socket, signals).await,
            read = block.fill(pipe) => read,
        };
        let Ok(n @ 1..) = read else { return Copied::All };
        let mut sent = 0;
        while sent < n {
            let written = tokio::select! {
                biased;
                written = socket.write(&block.bytes[sent..n]) => written,
                () = &mut signals.deletion => {
                    block.bytes.copy_within(sent..n, 0);
                    return copy_rest(&mut block, n - sent, pipe, socket, signals).await;
                }
            };
            match written {
                Ok(n @ 1..) => sent += n,
                Ok(0) => return gone(&io::ErrorKind::WriteZero.into()),
                Err(error) => return gone(&error),
            }
        }
    }
}

/// Hands over the first `held` bytes of the block, then what is in the pipe, and no more than it can hold: somebody
/// else may write on.
async fn copy_rest(
    block: &mut Block,
    held: usize,
    pipe: &mut (impl AsyncRead + Unpin),
    socket: &mut Socket,
    signals: &Signals,
) -> Copied {
    let Ok(_turn) = signals.lingering.try_acquire() else {
        tracing::warn!("too many outputs are left behind: one is thrown away");
        return Copied::NoReader;
    };
    let (mut n, mut taken) = (held, 0);
    loop {
        match tokio::time::timeout(LATE_MAX, socket.write_all(&block.bytes[..n])).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return gone(&error),
            Err(_) => return gone(&io::ErrorKind::TimedOut.into()),
        }
        if taken >= RELAY_BYTES {
            return Copied::Rest;
        }
        match tokio::time::timeout(LATE_IDLE, block.fill(pipe)).await {
            Ok(Ok(read @ 1..)) => n = read,
            Ok(Ok(0) | Err(_)) | Err(_) => return Copied::Rest,
        }
        taken += n;
    }
}

fn gone(error: &io::Error) -> Copied {
    tracing::debug!(%error, "the reader of an output stream is gone");
    Copied::NoReader
}

/// Ends a stream whose last byte was written.
async fn end(socket: Socket, close: StreamClose, signals: &mut Signals) {
    let ended = match close {
        StreamClose::Eof if matches!(socket, Socket::Vsock(_)) => socket.drain().await,
        // A Unix socket carries a half-close, and never says that its peer has taken everything.
        StreamClose::Eof | StreamClose::Delete => tokio::select! {
            ended = half_close(socket) => ended,
            () = &mut signals.deletion => Ok(()),
            () = raised(&mut signals.stopping) => Ok(()),
        },
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an output stream ended with an error");
    }
}

/// The same once the process has been deleted: a peer that does not close its side is not waited for long.
async fn end_late(socket: Socket, close: StreamClose) {
    let ended = match close {
        StreamClose::Eof if matches!(socket, Socket::Vsock(_)) => socket.drain().await,
        StreamClose::Eof | StreamClose::Delete => {
            tokio::time::timeout(LATE_CLOSE, half_close(socket)).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a late output stream ended with an error");
    }
}

/// Reads to the end, for nobody.
pub(super) async fn discard(mut from: impl AsyncRead + Unpin) {
    let mut block = Block::of(BLOCK_BYTES);
    while block.fill(&mut from).await.is_ok_and(|n| n > 0) {}
}

/// Says that no more will come, and keeps the connection until the peer has closed its side.
pub async fn half_close(mut socket: Socket) -> io::Result<()> {
    socket.shutdown().await?;
    discard(socket).await;
    Ok(())
}

/// Relays input until the stream ends, its end was asked for, or the process no longer reads; then the process sees the
/// end of its stdin. `idle` is how long the stream must be silent, with room in the pipe, before it ends on request:
/// what the host wrote before it asked travels on another connection, and may come later.
///
/// What comes for a process that no longer reads is taken all the same: its host must not block on it.
pub async fn input(
    mut socket: Socket,
    mut pipe: impl AsyncWrite + Unpin,
    closer: StdinCloser,
    idle: Duration,
) {
    let mut block = Block::of(RELAY_BYTES);
    loop {
        let n = match next(&mut socket, &mut block, &closer, idle).await {
            Ok(0) => return,
            Ok(n) => n,
            Err(error) => return tracing::debug!(%error, "an input stream broke"),
        };
        if pipe.write_all(&block.bytes[..n]).await.is_err() {
            drop(pipe);
            return discard(socket).await;
        }
    }
}

/// How many bytes came next; 0 at the end.
async fn next(
    socket: &mut Socket,
    block: &mut Block,
    closer: &StdinCloser,
    idle: Duration,
) -> io::Result<usize> {
    tokio::select! {
        biased;
        read = block.fill(socket) => return read,
        () = closer.asked() => {}
    }
    tokio::time::timeout(idle, block.fill(socket)).await.unwrap_or(Ok(0))
}

/// The buffer of one relay; it grows when a read has filled it, fourfold, to its bound.
pub(super) struct Block {
    pub bytes: Vec<u8>,
    most: usize,
    filled: bool,
}

impl Block {
    /// One that grows to `most` bytes.
    pub fn of(most: usize) -> Block {
        Block { bytes: vec![0; FIRST_BYTES], most, filled: false }
    }

    /// Reads once into the beginning of the buffer. Cancel safe.
    pub async fn fill(&mut self, from: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
        if self.filled {
            self.bytes.resize((4 * self.bytes.len()).min(self.most), 0);
        }
        let n = from.read(&mut self.bytes).await?;
        self.filled = n == self.bytes.len();
        Ok(n)
    }
}

#[cfg(test)]
mod tests;
