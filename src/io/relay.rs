//! Moving bytes: from a process's pipe or terminal to its stream, and back.
//!
//! One task per direction, each with one buffer of its own: a stream that stalls holds up its process and nothing else.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{oneshot, watch};

use super::closing::StdinCloser;
use crate::sys::socket::Socket;

/// Bytes moved at once: what vsock carries at full speed (4 KiB reach a third of it).
pub(super) const BLOCK_BYTES: usize = 64 * 1024;

/// What a relay begins with: most processes say little, and there may be thousands of them.
const FIRST_BYTES: usize = 4 * 1024;

/// Pause between two shutdowns of a connection that is to drain. Measured: end of file 20 to 60 ms after the last byte.
const EOF_REPEAT: Duration = Duration::from_millis(20);

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
    /// Its sender is dropped when the process is deleted; a value says that the relay is on its own from now on.
    pub deleted: oneshot::Receiver<()>,
    /// Turns true when the daemon stops: then only output that somebody may still take is waited for.
    pub stopping: watch::Receiver<bool>,
}

/// Relays output until the end of the pipe, then ends the stream.
///
/// When the peer goes away, or does not take the output before its process is deleted, the pipe is still read to its
/// end: whoever holds it must neither block nor be killed by SIGPIPE.
pub async fn output(
    mut pipe: impl AsyncRead + Unpin,
    mut socket: Socket,
    close: StreamClose,
    mut signals: Signals,
) {
    let taken = tokio::select! {
        copied = copy(&mut pipe, &mut socket) => {
            copied.inspect_err(|error| tracing::debug!(%error, "the reader of an output stream is gone")).is_ok()
        }
        () = deleted(&mut signals.deleted) => false,
    };
    if !taken {
        drop(socket);
        return output_for_nobody(pipe, signals).await;
    }
    signals.done.send_replace(true);
    let ended = match close {
        StreamClose::Eof if matches!(socket, Socket::Vsock(_)) => drain(&socket).await,
        // A Unix socket carries a half-close, and never says that its peer has taken everything.
        StreamClose::Eof | StreamClose::Delete => tokio::select! {
            ended = half_close(socket) => ended,
            () = deleted(&mut signals.deleted) => Ok(()),
            _ = signals.stopping.wait_for(|stopping| *stopping) => Ok(()),
        },
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an output stream ended with an error");
    }
}

/// Reads output to its end, or until the daemon stops.
pub async fn output_for_nobody(pipe: impl AsyncRead + Unpin, mut signals: Signals) {
    tokio::select! {
        () = discard(pipe) => {}
        _ = signals.stopping.wait_for(|stopping| *stopping) => {}
    }
    signals.done.send_replace(true);
}

pub(super) async fn deleted(deleted: &mut oneshot::Receiver<()>) {
    if deleted.await.is_ok() {
        std::future::pending().await
    }
}

/// Fails with the error of the socket; an error of the pipe is its end.
async fn copy(pipe: &mut (impl AsyncRead + Unpin), socket: &mut Socket) -> io::Result<()> {
    let mut block = Block::new();
    loop {
        match block.fill(pipe).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(n) => socket.write_all(&block.bytes[..n]).await?,
        }
    }
}

/// Reads to the end, for nobody.
pub(super) async fn discard(mut from: impl AsyncRead + Unpin) {
    let mut block = Block::new();
    while block.fill(&mut from).await.is_ok_and(|n| n > 0) {}
}

/// Says that no more will come, and keeps the connection until the peer has closed its side.
pub async fn half_close(mut socket: Socket) -> io::Result<()> {
    socket.shutdown().await?;
    discard(socket).await;
    Ok(())
}

/// Each shutdown asks the backend again whether its buffer is empty; once it is, it resets the connection.
async fn drain(socket: &Socket) -> io::Result<()> {
    while !socket.shut_and_gone()? {
        tokio::time::sleep(EOF_REPEAT).await;
    }
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
    let mut block = Block::new();
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

/// The buffer of one relay; it grows when a read has filled it.
pub(super) struct Block {
    pub bytes: Vec<u8>,
    filled: bool,
}

impl Block {
    pub fn new() -> Block {
        Block { bytes: vec![0; FIRST_BYTES], filled: false }
    }

    /// Reads once into the beginning of the buffer. Cancel safe.
    pub async fn fill(&mut self, from: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
        if self.filled {
            self.bytes.resize(BLOCK_BYTES, 0);
        }
        let n = from.read(&mut self.bytes).await?;
        self.filled = n == self.bytes.len();
        Ok(n)
    }
}

#[cfg(test)]
mod tests;
