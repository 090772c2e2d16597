//! How containerd calls the shim: its command line, its standard input, and what is answered on standard output. Owns
//! the socket's place, the files that containerd looks for in a bundle, and the log pipe; never knows what a task is.

mod args;
mod delete;
mod error;
mod info;
mod log;
mod mounts;
mod reply;
mod serving;
mod socket;
mod start;
mod stdin;

pub use args::{Action, Call, Serving};
pub use delete::delete;
pub use error::{DeleteError, InheritError, StartError, UsageError};
pub use info::{info, version, RUNTIME};
pub use log::init as init_log;
pub use serving::{close_strangers, inherited_listener};
pub use start::{start, Settings};

/// containerd serves ttrpc beside its gRPC socket, under the same name with this at its end.
const TTRPC_SUFFIX: &str = ".ttrpc";
/// How every address of a Unix socket begins.
const UNIX: &str = "unix://";
