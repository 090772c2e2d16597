//! Signals, blocked for the whole process and read from a descriptor.

use std::io;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::io::unix::AsyncFd;

/// Blocks every signal in this thread and all that it starts. To be called before there is a second thread.
pub fn block_all() -> io::Result<()> {
    Ok(SigSet::all().thread_block()?)
}

/// Blocked signals, as they come.
#[derive(Debug)]
pub struct Signals(AsyncFd<SignalFd>);

impl Signals {
    /// Reads `signals` from now on; they must be blocked. Needs a tokio runtime.
    pub fn of(signals: &[Signal]) -> io::Result<Signals> {
        let set: SigSet = signals.iter().copied().collect();
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        // SAFETY: the descriptor is owned by the SignalFd inside and closed with it, after it was deregistered.
        let fd = unsafe { AsyncFd::register(fd) }.map_err(|error| error.into_parts().1)?;
        Ok(Signals(fd))
    }

    /// Waits for the next one. Dropping the future loses nothing.
    pub async fn next(&self) -> io::Result<Signal> {
        loop {
            let mut ready = self.0.readable().await?;
            match self.0.get_ref().read_signal()? {
                // A number that fits no `Signal` cannot come from a set of `Signal`s; were it to, it would be skipped.
                Some(info) => match Signal::try_from(info.ssi_signo as i32) {
                    Ok(signal) => return Ok(signal),
                    Err(_) => continue,
                },
                None => ready.clear_ready(),
            }
        }
    }
}
