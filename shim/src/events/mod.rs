//! Events on their way to containerd: made, rewritten from the guest's, queued, and forwarded in order. Owns what an
//! event looks like to containerd; never knows the state of a task.

mod event;
mod names;
mod publisher;
mod queue;
mod rewrite;

pub use event::{Event, Exited};
pub use names::{host_pid, Names, Stdio};
pub use publisher::{Publisher, Unsent};
pub use rewrite::{container_of, rewrite};

#[cfg(test)]
mod tests;
