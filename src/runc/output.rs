//! What an invocation prints on stdout and stderr, read as it comes and kept up to a bound.
//!
//! Reading never waits for the end of the pipe: a grandchild may hold it open. Once runc has ended what is there by
//! then is taken, and that is all.

use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;

use tokio::net::unix::pipe::Receiver;

use crate::sys::process::pipe;

/// Output beyond this is read and thrown away, so that runc never blocks on a full pipe.
const KEPT_BYTES: usize = 1024 * 1024;

const BLOCK_BYTES: usize = 16 * 1024;

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
            if !self.take_ready() {
                break;
            }
        }
        std::future::pending().await
    }

    /// Takes what is in the pipe by now. `false` at its end.
    fn take_ready(&mut self) -> bool {
        let mut block = [0; BLOCK_BYTES];
        loop {
            match self.pipe.try_read(&mut block) {
                Ok(0) => return false,
                Ok(n) => {
                    let room = KEPT_BYTES - self.kept.len();
                    self.kept.extend_from_slice(&block[..n.min(room)]);
                }
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }

    /// All that was printed, up to the bound. To be called when the child has ended.
    pub fn finish(mut self) -> Vec<u8> {
        // tokio's try_read says WouldBlock until its driver has seen the pipe; the descriptor itself knows better.
        let mut block = [0; BLOCK_BYTES];
        while let Ok(n @ 1..) = nix::unistd::read(&self.pipe, &mut block) {
            let room = KEPT_BYTES - self.kept.len();
            self.kept.extend_from_slice(&block[..n.min(room)]);
        }
        self.kept
    }
}
