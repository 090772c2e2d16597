//! Why the demo failed.

use std::error::Error;
use std::io;
use std::time::Duration;

use vminit_shim::client::ClientError;
use vminit_shim::vm::VmError;

/// Why the demo did not show what it is to show.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("cannot run the virtual machine")]
    Vm(#[from] VmError),
    #[error("cannot talk to the guest")]
    Guest(#[from] ClientError),
    #[error("cannot {what}")]
    Io { what: &'static str, source: io::Error },
    /// Everything worked, but not as it should.
    #[error("{what} should be {expected}, but is {got}")]
    Unexpected { what: String, expected: String, got: String },
    #[error("cannot {step} within {within:?}; the console's last lines:\n{console}")]
    Late { step: &'static str, within: Duration, console: String },
}

/// The error and its causes, from the outside in.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
