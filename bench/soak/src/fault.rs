//! What can be found wrong. Owns its words; decides nothing.

use std::io;

use tokio::task::JoinError;
use vminit_shim::client::ClientError;

use crate::sum::Sum;

/// One thing that was not as it should be. `who` is a container, or a container and its exec.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("{who}: cannot {source}")]
    Call { who: String, source: ClientError },
    #[error("{who}: cannot {what}: {source}")]
    Io { who: String, what: &'static str, source: io::Error },
    #[error("{who}: {what} does not come")]
    Late { who: String, what: &'static str },
    #[error("{who}: it ended with {found}, not {expected}")]
    Status { who: String, expected: u32, found: u32 },
    #[error("{who}: {what} has {found}, not {expected}")]
    Payload { who: String, what: &'static str, expected: Sum, found: Sum },
    #[error("{who}: it said {found:?}, not {expected:?}")]
    Said { who: String, expected: String, found: String },
    #[error("{who}: the answer to {call} is {found}")]
    Answer { who: String, call: &'static str, found: String },
    #[error("{worker}: {source}")]
    Worker { worker: String, source: JoinError },
    /// What one subscriber was told is no part of what the others were.
    #[error("subscriber {number}: its events are not those of the others from {first:?} on")]
    Subscriber { number: usize, first: String },
    #[error("the events of a leg: {0}")]
    Events(String),
    #[error("back to the level of before: {0}")]
    Level(String),
    #[error("memory rises by {rise_kb:.0} kB over the checkpoints: {levels:?}")]
    Trend { rise_kb: f64, levels: Vec<usize> },
}

impl Fault {
    /// Names whose call failed, for use in `map_err`.
    pub fn call(who: &str) -> impl FnOnce(ClientError) -> Fault + use<'_> {
        move |source| Fault::Call { who: who.into(), source }
    }

    /// Names what failed, for use in `map_err`.
    pub fn io<'a>(who: &'a str, what: &'static str) -> impl FnOnce(io::Error) -> Fault + use<'a> {
        move |source| Fault::Io { who: who.into(), what, source }
    }
}
