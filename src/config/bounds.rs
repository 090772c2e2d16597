//! The bounds of everything that could otherwise grow or wait without end, each with its reason.

use std::time::Duration;

/// Times, sizes and counts that nothing may exceed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// How long an exit waits for the rest of a process's output: what is in a pipe is read in far less, and a
    /// pipe that a stray grandchild holds open must not hold the exit back.
    pub io_drain: Duration,
    /// How long Delete waits for the host to take the output: a slow reader deserves it, an absent one does not.
    pub delete_drain: Duration,
    /// What Delete leaves of its caller's deadline for its own work and the way back.
    pub delete_margin: Duration,
    /// How long a stdin that CloseIO is to end must be silent first. What was written before the call may come after
    /// it; spinbox's host looks for input every 50 ms.
    pub closeio_idle: Duration,
    /// How long a new stream connection may take to say which stream it is.
    pub stream_handshake: Duration,
    /// How long a stream that no task asks for is kept; a Create that uses it follows within seconds.
    pub stream_unclaimed: Duration,
    /// How long a block device that a Create names may take to appear: the kernel probes disks while init boots.
    pub device_wait: Duration,
    /// RLIMIT_NOFILE of the daemon: a process takes nine descriptors at most, so this is good for some 5,000 of them,
    /// and for ending them.
    pub nofile: u64,
    /// Events kept for a subscriber that is not there; some hundred containers that start and stop.
    pub event_replay: usize,
    /// `runc create` and `exec`: they set up namespaces and mounts on a disk that may be cold.
    pub runc_create: Duration,
    /// `runc` calls that change a container: start, delete, pause, resume, update.
    pub runc_change: Duration,
    /// `runc` calls that only look or signal: kill and ps.
    pub runc_query: Duration,
    /// `runc checkpoint` of a caller without a deadline: all memory of a container goes to a disk.
    pub runc_checkpoint: Duration,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            io_drain: Duration::from_millis(500),
            delete_drain: Duration::from_millis(10_000),
            delete_margin: Duration::from_secs(2),
            closeio_idle: Duration::from_millis(100),
            stream_handshake: Duration::from_millis(5_000),
            stream_unclaimed: Duration::from_millis(60_000),
            device_wait: Duration::from_secs(5),
            nofile: 65_536,
            event_replay: 4_096,
            runc_create: Duration::from_secs(60),
            runc_change: Duration::from_secs(30),
            runc_query: Duration::from_secs(10),
            runc_checkpoint: Duration::from_secs(600),
        }
    }
}
