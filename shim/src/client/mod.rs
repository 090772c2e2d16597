//! A typed client of a guest. It owns the host's ends of both ports: requests, events and stdio streams. It never
//! starts or stops a virtual machine, and it never retries a request: only connecting is tried again.

mod connection;
mod endpoint;
mod error;
mod event;
mod guest;
mod stream;
mod system;

pub use connection::{context, Client};
pub use endpoint::Endpoint;
pub use error::ClientError;
pub use event::{Event, EventStream, Received};
pub use guest::{Container, Exec, Exit, Finished, Guest};
pub use stream::{Output, Stdio, Stream, Streams};

/// The exec id that means the container's init.
pub const INIT: &str = "";
