//! The console of a process with a terminal: the socket on which the runtime delivers it, and the wait for that.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::UnixListener;

use crate::sys::pty::{receive_descriptor, Pty};

/// How long the console may take once the runtime has ended. runc itself has sent it by then; where a child that it
/// leaves behind sends it, that is a matter of moments.
const LATE: Duration = Duration::from_secs(10);

/// A socket for one invocation. The runtime, or a child of it, connects and sends the master of the terminal.
pub(super) struct ConsoleSocket(UnixListener);

impl ConsoleSocket {
    /// `path` is to be in a folder of our own, and short: a socket's path has room for 107 bytes (unix(7)).
    pub fn bind(path: &Path) -> io::Result<ConsoleSocket> {
        UnixListener::bind(path).map(ConsoleSocket)
    }

    /// Takes the console that the runtime has sent or is about to send.
    ///
    /// # Errors
    /// `TimedOut` if none comes; those of [`receive_descriptor`] and [`Pty::of`].
    pub async fn receive(self) -> io::Result<Pty> {
        let too_late = || format!("none came within {} s", LATE.as_secs());
        tokio::time::timeout(LATE, self.next())
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, too_late())))
    }

    async fn next(&self) -> io::Result<Pty> {
        let (stream, _) = self.0.accept().await?;
        let take = || receive_descriptor(stream.as_fd());
        Pty::of(stream.async_io(Interest::READABLE, take).await?)
    }
}
