//! Stdio: where it is to go, the ends that are opened for a process, the relays that move its bytes, and the streams
//! that hosts open for it. Knows nothing of tasks and their states.

mod closing;
mod deletion;
mod ends;
mod handshake;
mod relay;
mod rpc;
mod stdio;
mod streams;
mod terminal;
mod uri;
mod window;

pub use closing::StdinCloser;
pub use ends::{Ends, StdioSpec};
pub use relay::StreamClose;
pub use rpc::{CutOff, InputError, Outlet, Served, Subscription};
pub use stdio::{OpenError, OutputDone, Owner, RelaySettings, RelayTasks, Relays, Stdio};
pub use streams::{EnterError, HostEnd, StreamSettings, StreamTable, Streams};
pub use uri::{StreamId, StreamIds, UriError};
pub use window::{Broken, Credit, Window, MESSAGE_BYTES};
