//! The vocabulary of the table: what a row says.

use vminit_shim::api::containerd::api::Status;

use crate::call::{Answer, Method};

/// What has become of the container before the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// It was never created.
    Missing,
    Created,
    Running,
    /// Its Pause hangs.
    Pausing,
    Paused,
    Stopped,
    Deleted,
}

/// Which process the call is about, and what has become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Init,
    /// An exec that was never added.
    Unknown,
    Added,
    Running,
    /// An exec whose start failed.
    Failed,
    Exited,
    Deleted,
}

/// What State says of the process after the call.
#[derive(Debug, Clone, Copy)]
pub enum After {
    Is(Status),
    Gone,
}

pub const CREATED: After = After::Is(Status::CREATED);
pub const RUNNING: After = After::Is(Status::RUNNING);
pub const PAUSING: After = After::Is(Status::PAUSING);
pub const PAUSED: After = After::Is(Status::PAUSED);
pub const STOPPED: After = After::Is(Status::STOPPED);
pub const GONE: After = After::Gone;

/// One line of the table.
#[derive(Debug)]
pub struct Row {
    pub method: Method,
    pub init: Init,
    pub who: Who,
    pub answer: Answer,
    /// All that is published because of the call, in order.
    pub events: &'static [&'static str],
    /// The verbs of all calls of runc for this container, in order.
    pub runc: &'static [&'static str],
    pub after: After,
}

/// A call that changes something.
pub const fn row(
    method: Method,
    (init, who): (Init, Who),
    answer: Answer,
    events: &'static [&'static str],
    runc: &'static [&'static str],
    after: After,
) -> Row {
    Row { method, init, who, answer, events, runc, after }
}

/// A call that publishes nothing and does not call runc.
pub const fn idle(method: Method, (init, who): (Init, Who), answer: Answer, after: After) -> Row {
    Row { method, init, who, answer, events: &[], runc: &[], after }
}
