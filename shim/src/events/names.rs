//! What the host calls what the guest speaks of. Owns the mapping of process ids; never changes one that was reported.

use vminitd_api::containerd::types::mount::Mount;

/// No process of a Linux host has a number as large as this (PID_MAX_LIMIT, proc(5)).
const PID_MAX_LIMIT: u32 = 1 << 22;

/// Where the init process' streams lead, as Task.Create named them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stdio {
    pub stdin: String,
    pub stdout: String,
    pub stderr: String,
    pub terminal: bool,
}

/// The host's names for one container.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Names {
    pub container_id: String,
    pub bundle: String,
    /// The mounts of Task.Create, as containerd handed them over.
    pub rootfs: Vec<Mount>,
    pub stdio: Stdio,
    /// The process of the host that stands for the container's init.
    pub init_pid: u32,
}

impl Names {
    /// Whether a process' id of an event means the init: it is empty or the container's own.
    pub fn is_init(&self, id: &str) -> bool {
        id.is_empty() || id == self.container_id
    }

    /// The pid to report for a process of this container.
    pub fn pid(&self, id: &str, guest_pid: u32) -> u32 {
        if self.is_init(id) {
            self.init_pid
        } else {
            host_pid(guest_pid)
        }
    }
}

/// The pid to report for a process of the guest that no process of the host stands for: one that names nothing here.
///
/// 0 stays 0, which is no process; so does what no Linux guest can have.
pub fn host_pid(guest_pid: u32) -> u32 {
    match guest_pid {
        1..PID_MAX_LIMIT => guest_pid + PID_MAX_LIMIT,
        _ => 0,
    }
}
