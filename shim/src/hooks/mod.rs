//! OCI hooks on the host: programs that are run in order with the container's state on their standard input. Owns their
//! processes, their deadlines, and the record of which `poststop` hooks have run; never decides when a stage has come.
//!
//! They run in the namespaces of the shim, which are the host's but for its mounts: what the host mounts they see, and
//! what they mount stays with the shim.

mod error;
mod poststop;
mod run;
mod state;

pub use error::{HookError, PoststopError};
pub use poststop::poststop;
pub use run::{run, run_all};
pub use state::{ContainerState, Status};
