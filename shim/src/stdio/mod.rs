//! The host's ends of a process's stdio, and the relays between them and the streams of the guest. Owns what containerd
//! names in Create and Exec: FIFOs, files, logging binaries. Never knows the state of a task, nor makes a pty: a
//! terminal's is in the guest, and here it is a FIFO each way.
//!
//! In order: [`StdioSpec::parse`], [`Ends::open`], [`StdioSpec::dial`] before the guest's Create, [`Ends::relay`] right
//! after the dial; [`Relays::hold_stdin`] when Create or Exec is answered; at a CloseIO [`Relays::close_stdin`], and
//! the guest's CloseIO after [`Relays::stdin_ended`]; at an exit [`Relays::drained`] with [`EXIT_DRAIN`]; at Delete the
//! same with [`DELETE_DRAIN`], then [`Relays::release`].
//!
//! Nothing is dropped for a reader that is slow or away: it holds up its process, as a full pipe would. Only what can
//! never be written (a full disk, a logger that has died) is thrown away, with a warning, so that the process lives on.

mod dial;
mod ends;
mod fifo;
mod logger;
mod relay;
mod relays;
mod uri;

use std::time::Duration;

pub use dial::GuestEnds;
pub use ends::{Ends, OpenError};
pub use logger::{LoggerError, Owner};
pub use relays::Relays;
pub use uri::{LoggerUri, Outputs, Place, StdioSpec, UriError};

/// How long an exit may wait for output. What is under way takes milliseconds; what takes longer has a slow reader or
/// was left open by a child that lives on, goes on being relayed, and must not keep an exit from those who wait.
pub const EXIT_DRAIN: Duration = Duration::from_secs(2);

/// How long Delete may wait for output, which is lost afterwards; the figure of containerd's own shim.
pub const DELETE_DRAIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
