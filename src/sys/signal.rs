//! Signals, blocked for the whole process and read from a descriptor.

use std::io;

use nix::sys::signal::SigSet;
use nix::sys::signal::Signal as Named;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::io::unix::AsyncFd;

/// A signal by the kernel's number: one that can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(i32);

/// A number that is no signal's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("signal {0} is not between 1 and {last}", last = Signal::LAST.0)]
pub struct NoSignal(u32);

impl Signal {
    pub const KILL: Signal = Signal(libc::SIGKILL);
    pub const TERM: Signal = Signal(libc::SIGTERM);
    /// The kernel's highest (signal(7): SIGRTMAX).
    pub const LAST: Signal = Signal(64);

    pub fn as_raw(self) -> i32 {
        self.0
    }
}

impl TryFrom<u32> for Signal {
    type Error = NoSignal;

    fn try_from(number: u32) -> Result<Signal, NoSignal> {
        match i32::try_from(number) {
            Ok(raw) if (1..=Signal::LAST.0).contains(&raw) => Ok(Signal(raw)),
            _ => Err(NoSignal(number)),
        }
    }
}

impl std::fmt::Display for Signal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Blocks every signal in this thread and all that it starts. To be called before there is a second thread.
pub fn block_all() -> io::Result<()> {
    Ok(SigSet::all().thread_block()?)
}

/// Blocked signals, as they come.
#[derive(Debug)]
pub struct Signals(AsyncFd<SignalFd>);

impl Signals {
    /// Reads `signals` from now on; they must be blocked. Needs a tokio runtime.
    pub fn of(signals: &[Named]) -> io::Result<Signals> {
        let set: SigSet = signals.iter().copied().collect();
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        // SAFETY: the descriptor is owned by the SignalFd inside and closed with it, after it was deregistered.
        let fd = unsafe { AsyncFd::register(fd) }.map_err(|error| error.into_parts().1)?;
        Ok(Signals(fd))
    }

    /// Waits for the next one. Dropping the future loses nothing.
    pub async fn next(&self) -> io::Result<Named> {
        loop {
            let mut ready = self.0.readable().await?;
            match self.0.get_ref().read_signal()? {
                // A number that has no name cannot come from a set of names; were it to, it would be skipped.
                Some(info) => match Named::try_from(info.ssi_signo as i32) {
                    Ok(signal) => return Ok(signal),
                    Err(_) => continue,
                },
                None => ready.clear_ready(),
            }
        }
    }
}
