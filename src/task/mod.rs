//! What a container and its processes are, and what may be done to them: the registry, the process state machine, the
//! exit gate. No protobuf, no ttrpc, no argv.
//!
//! Nothing here holds a lock across runc, mounts or any other IO: a lock covers one step of the pure state, and what
//! is slow happens between two steps.

mod bundles;
mod container;
mod create;
mod delete;
mod error;
mod exec;
mod gate;
mod ids;
mod kill;
#[cfg(test)]
mod model;
mod oom;
mod pause;
mod registry;
mod resize;
mod resources;
mod settle;
mod start;
mod state;
mod stdio;
mod stop;

pub use crate::cgroup::Stats;
pub use crate::reaper::Reaped;
pub use crate::rootfs::Mount;
pub use crate::runc::resources::Resources;
pub use crate::runc::spec::{exec_process, SpecError};
pub use crate::runc::{CgroupsMode, CheckpointOptions, Options as RuntimeOptions};
pub use crate::sys::pty::WindowSize;
pub use bundles::{Bundles, FileName, FileNameError};
pub use create::CreateRequest;
pub use error::TaskError;
pub use exec::ExecRequest;
pub use ids::{ContainerId, ExecId, IdError, ProcessId};
pub use pause::CheckpointRequest;
pub use registry::{Bounds, Parts, Tasks};
pub use state::Status;
