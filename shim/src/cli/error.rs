//! Why a command line was not understood, or an action did not do its job.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a command line is none of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    #[error("read argument {0}: it is not UTF-8")]
    NotUtf8(usize),
    #[error("understand the flag -{0}")]
    UnknownFlag(String),
    #[error("read the flag -{flag}: {value:?} is not true or false")]
    NotBool { flag: &'static str, value: String },
    /// The value, or the whole flag, is not there.
    #[error("go on without a value of -{0}")]
    Missing(&'static str),
    /// It would have to be one component of a path.
    #[error("use {value:?} as -{flag}")]
    BadName { flag: &'static str, value: String },
    #[error("do {0:?}: the actions are start and delete")]
    UnknownAction(String),
}

/// Why `start` has no shim to offer. Whatever was begun has been undone.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("read the standard input: {0}")]
    Stdin(#[source] io::Error),
    #[error("read the standard input: it has more than {0} bytes")]
    StdinTooLong(u64),
    /// Neither the parameters of a bootstrap for this very task, nor runtime options.
    #[error("understand the standard input: {0}")]
    StdinUnknown(#[source] protobuf::Error),
    #[error("listen on {}: {source}", path.display())]
    Listen { path: PathBuf, source: io::Error },
    #[error("write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("start the serving process: {0}")]
    Spawn(#[source] io::Error),
}

/// Why the serving process could not take over from `start`.
#[derive(Debug, thiserror::Error)]
pub enum InheritError {
    #[error("begin a session: {0}")]
    Session(#[source] io::Error),
    #[error("take the listener from standard input: {0}")]
    Listener(#[source] io::Error),
}

/// Why `delete` cannot say that everything is gone.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError<E: std::error::Error + 'static> {
    #[error("clean up: {0}")]
    Cleanup(#[source] E),
    #[error("clean up within {0:?}")]
    Deadline(Duration),
}
