//! Moving bytes: from a process's pipe to its stream, and from its stream to its pipe.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{recv, shutdown, MsgFlags, Shutdown};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::watch;

use crate::sys::socket::Socket;

/// Bytes moved at once: the capacity of a pipe, and what vsock carries at full speed (4 KiB reach a third of it).
const BLOCK_BYTES: usize = 64 * 1024;

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

/// Relays output until the end of the pipe, says so on `done`, then ends the stream.
///
/// When the peer goes away the pipe is still read to its end, so that the process never blocks on it. Once `stopping`
/// turns true a half-closed connection is kept no longer. Dropping the future closes both sides.
pub async fn output(
    pipe: Receiver,
    mut socket: Socket,
    close: StreamClose,
    done: watch::Sender<bool>,
    mut stopping: watch::Receiver<bool>,
) {
    if let Err(error) = copy_output(pipe, &mut socket).await {
        tracing::debug!(%error, "the reader of an output stream is gone");
        done.send_replace(true);
        return;
    }
    done.send_replace(true);
    let ended = match close {
        StreamClose::Delete => tokio::select! {
            ended = half_close(socket) => ended,
            _ = stopping.wait_for(|stopping| *stopping) => Ok(()),
        },
        StreamClose::Eof => drain(socket).await,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an output stream ended with an error");
    }
}

/// Fails with the error of the socket, having read the pipe to its end all the same.
async fn copy_output(mut pipe: Receiver, socket: &mut Socket) -> io::Result<()> {
    let mut block = vec![0; BLOCK_BYTES];
    let mut written = Ok(());
    loop {
        let n = match pipe.read(&mut block).await {
            Ok(0) | Err(_) => return written,
            Ok(n) => n,
        };
        if written.is_ok() {
            written = socket.write_all(&block[..n]).await;
        }
    }
}

/// Says that no more will come, and keeps the connection until the peer has closed its side.
async fn half_close(mut socket: Socket) -> io::Result<()> {
    socket.shutdown().await?;
    let mut ignored = [0; 512];
    while socket.read(&mut ignored).await? > 0 {}
    Ok(())
}

/// Each shutdown asks the backend again whether its buffer is empty; once it is, it resets the connection.
async fn drain(socket: Socket) -> io::Result<()> {
    loop {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&socket.as_fd());
        match shutdown(fd, Shutdown::Both) {
            Ok(()) => {}
            Err(Errno::ENOTCONN) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        // `shutdown` sets the sender's side only; that the peer is done shows when a read is no longer an end of file.
        if recv(fd, &mut [0; 1], MsgFlags::MSG_DONTWAIT) == Err(Errno::ENOTCONN) {
            return Ok(());
        }
        tokio::time::sleep(EOF_REPEAT).await;
    }
}

/// Relays input until the stream ends or the process no longer reads; then the process sees the end of its stdin.
pub async fn input(mut socket: Socket, mut pipe: Sender) {
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        let n = match socket.read(&mut block).await {
            Ok(0) => return,
            Ok(n) => n,
            Err(error) => return tracing::debug!(%error, "an input stream broke"),
        };
        if pipe.write_all(&block[..n]).await.is_err() {
            return;
        }
    }
}
