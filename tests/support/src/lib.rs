//! What the black-box tests share: a daemon under test, its events in order, and the search for what it left behind.
//!
//! It sees the daemon only as its host does, through sockets, and as the kernel does, through `/proc`. It never reaches
//! into the daemon's code.
#![allow(
    clippy::disallowed_methods,
    reason = "the ban keeps children away from PID 1's back; this is not PID 1"
)]

pub mod audience;
pub mod binaries;
pub mod calls;
pub mod chance;
pub mod cuttable;
pub mod daemon;
pub mod events;
pub mod leaks;
pub mod level;
pub mod machine;
pub mod once;
pub mod order;
pub mod poll;
pub mod rootfs;
pub mod valve;
pub mod wire;
pub mod wrapper;

pub use audience::Audience;
pub use cuttable::Cuttable;
pub use daemon::Daemon;
pub use events::{EventLog, Subscriber};
pub use level::Level;
pub use machine::Machine;
pub use poll::{poll, poll_until, ABSENCE, LIMIT, PATIENCE};
pub use valve::Valve;
pub use wrapper::Wrapper;

use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::ClientError;

/// One MiB, in bytes.
pub const MIB: usize = 1 << 20;

/// The code of a refusal; a test that expects one fails on anything else.
pub fn code<T: std::fmt::Debug>(result: Result<T, ClientError>) -> Code {
    code_of(result.expect_err("the call was to be refused"))
}

/// The code of a refusal; a test fails on anything else that goes wrong.
pub fn code_of(error: ClientError) -> Code {
    error.code().unwrap_or_else(|| panic!("not an answer of the daemon: {error}"))
}

/// Signals whose default is to end a process: all but CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG, WINCH (signal(7)).
pub fn deadly_signals() -> impl Iterator<Item = u32> {
    (1..=31).filter(|signal| ![17, 18, 19, 20, 21, 22, 23, 28].contains(signal))
}
