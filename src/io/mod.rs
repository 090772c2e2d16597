//! Stdio: where it is to go, the ends that are opened for a process, the relays that move its bytes, and the streams
//! that hosts open for it. Knows nothing of tasks and their states.

mod relay;
mod stdio;
mod streams;
mod uri;

pub use relay::StreamClose;
pub use stdio::{OpenError, OutputDone, Owner, RelayTasks, Relays, Stdio, StdioSpec};
pub use streams::{StreamBounds, StreamTable, Streams};
pub use uri::{StreamId, Uri, UriError};
