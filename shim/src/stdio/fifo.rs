//! FIFOs whose other end comes and goes. Owns the descriptors that keep one alive in between; never makes or removes
//! one.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::{OpenOptions, Receiver, Sender};
use tokio::time::sleep;

/// The pauses between two looks for a reader double from the first to the second: nothing tells that one has come, and
/// one that comes has waited for longer.
const LOOK: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// A FIFO to write to. It has a read end of its own, so that a reader that goes away (a detach, a restart of
/// containerd) is neither an error nor the loss of what it has not read: the pipe fills, and then the writer waits.
#[derive(Debug)]
pub(super) struct FifoWriter {
    writer: Sender,
    own_reader: OwnedFd,
}

impl FifoWriter {
    /// Does not block. Fails if `path` is no FIFO.
    pub fn open(path: &Path) -> io::Result<FifoWriter> {
        // In this order: without a reader there is no opening for writing, fifo(7).
        let own_reader = OpenOptions::new().open_receiver(path)?.into_nonblocking_fd()?;
        Ok(FifoWriter { writer: OpenOptions::new().open_sender(path)?, own_reader })
    }

    /// Waits while the pipe is full.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes).await
    }

    /// Closes the FIFO when somebody is there to see its end. What is in a pipe lasts as long as one end is open, so
    /// the last bytes of a process that ended while nobody was attached await the next reader.
    pub async fn end(self) {
        drop(self.own_reader);
        let mut pause = LOOK.0;
        while !has_reader(&self.writer) {
            sleep(pause).await;
            pause = (2 * pause).min(LOOK.1);
        }
    }
}

/// Whether anybody has the other end open: poll(2) reports POLLERR for a pipe without readers. An error is taken for a
/// yes, which ends the wait.
fn has_reader(writer: &Sender) -> bool {
    let mut fds = [PollFd::new(writer.as_fd(), PollFlags::empty())];
    let polled = poll(&mut fds, PollTimeout::ZERO);
    polled.is_err() || !fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLERR))
}

/// A FIFO to read from. Once it is held it has a write end of its own, so that it does not end when a client goes away;
/// containerd says when it is to end, with CloseIO.
#[derive(Debug)]
pub(super) struct FifoReader {
    reader: Receiver,
    path: PathBuf,
    own_writer: Option<Sender>,
}

impl FifoReader {
    /// Does not block. Fails if `path` is no FIFO.
    pub fn open(path: &Path) -> io::Result<FifoReader> {
        let reader = OpenOptions::new().open_receiver(path)?;
        Ok(FifoReader { reader, path: path.to_owned(), own_writer: None })
    }

    /// Reads once; 0 at the end, which comes when the last client has closed and everything was read, unless the FIFO
    /// is held. Before the first client it waits. Cancel safe.
    pub async fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.reader.read(bytes).await
    }

    /// Lets the FIFO outlive its clients; one whose client has come and gone already ends all the same.
    pub fn hold(&mut self) -> io::Result<()> {
        if !has_ended(&self.reader) {
            self.own_writer = Some(OpenOptions::new().open_sender(&self.path)?);
        }
        Ok(())
    }

    /// Lets the FIFO end with its last client, or now if there is none. Fails if it cannot.
    pub fn close(&mut self) -> io::Result<()> {
        // The end is that of a writer that was there.
        if self.own_writer.is_none() {
            self.hold()?;
        }
        self.own_writer = None;
        Ok(())
    }
}

/// Whether there was a writer and is none: poll(2) reports POLLHUP then, and nothing where there was none yet (Linux,
/// fs/pipe.c, `pipe_poll`).
fn has_ended(reader: &Receiver) -> bool {
    let mut fds = [PollFd::new(reader.as_fd(), PollFlags::empty())];
    let polled = poll(&mut fds, PollTimeout::ZERO);
    polled.is_ok() && fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP))
}
