//! What an invocation prints on stdout and stderr, read as it comes and kept up to a bound.
//!
//! Reading never waits for the end of the pipe: a grandchild may hold it open. Once runc has ended what is there by
//! then is taken, and that is all.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use tokio::net::unix::pipe::Receiver;

use crate::sys::process::{pipe, read_now};

/// Output beyond this is read and thrown away, so that runc never blocks on a full pipe.
const KEPT_BYTES: usize = 1024 * 1024;

const BLOCK_BYTES: usize = 16 * 1024;

/// What a pipe holds unless it is told otherwise (pipe(7)).
const PIPE_BYTES: usize = 64 * 1024;

/// The reading end of a pipe, and what came through it.
pub struct Output {
    pipe: Receiver,
    kept: Vec<u8>,
}

impl Output {
    /// Also returns the writing end, for the child.
    pub fn new() -> io::Result<(Output, OwnedFd)> {
        let (read, write) = pipe()?;
        Ok((Output { pipe: Receiver::from_owned_fd(read)?, kept: Vec::new() }, write))
    }

    /// Reads until the end of the pipe, then waits for ever: the exit of the child is what ends an invocation.
    pub async fn collect(&mut self) -> Infallible {
        while self.pipe.readable().await.is_ok() {
            match self.take() {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => break,
            }
        }
        std::future::pending().await
    }

    /// Takes what is there. The block is on the stack, and not in the future of each call, of which it would be the most.
    fn take(&mut self) -> io::Result<usize> {
        let mut block = [0; BLOCK_BYTES];
        let length = self.pipe.try_read(&mut block)?;
        self.keep(&block[..length]);
        Ok(length)
    }

    /// All that was printed, up to the bound. To be called when the child has ended.
    pub fn finish(mut self) -> Vec<u8> {
        // tokio says WouldBlock until its driver has seen the pipe; the descriptor itself knows better. What a
        // grandchild writes meanwhile is not waited for: no more is taken than a pipe holds.
        let mut block = [0; BLOCK_BYTES];
        for _ in 0..PIPE_BYTES / BLOCK_BYTES {
            match read_now(self.pipe.as_fd(), &mut block) {
                Ok(length @ 1..) => self.keep(&block[..length]),
                Ok(0) | Err(_) => break,
            }
        }
        self.kept
    }

    fn keep(&mut self, block: &[u8]) {
        let room = KEPT_BYTES - self.kept.len();
        self.kept.extend_from_slice(&block[..block.len().min(room)]);
    }
}
