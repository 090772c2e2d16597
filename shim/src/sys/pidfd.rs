//! A process by its descriptor: unlike its number, this never comes to mean another. Has the `unsafe` of
//! waiting for one; never reaps.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{pidfd_open, pidfd_send_signal, Pid, PidfdFlags, Signal};
use tokio::io::unix::AsyncFd;
use tokio::io::Interest;

/// Any process, a child or not.
#[derive(Debug)]
pub(crate) struct Pidfd(AsyncFd<OwnedFd>);

impl Pidfd {
    /// The process that has this number now. Needs a tokio runtime.
    ///
    /// # Errors
    /// As of pidfd_open(2); `InvalidInput` if no process can have the number.
    pub(crate) fn open(pid: u32) -> io::Result<Pidfd> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        let fd = pidfd_open(pid, PidfdFlags::empty())?;
        // SAFETY: an `OwnedFd` always gives the same descriptor, and closes it only when it is dropped.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?;
        Ok(Pidfd(fd))
    }

    /// Sends SIGKILL; a process that has ended is no error.
    ///
    /// # Errors
    /// As of pidfd_send_signal(2).
    pub(crate) fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(self.0.get_ref(), Signal::KILL) {
            Err(rustix::io::Errno::SRCH) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Waits for its end; whether it was reaped does not matter (pidfd_open(2), "poll").
    pub(crate) async fn ended(&self) {
        // Fails only when the runtime goes away, and its process with it.
        let _ = self.0.readable().await;
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}
