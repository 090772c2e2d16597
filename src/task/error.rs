//! Why something cannot be done to a task.

use std::path::PathBuf;

use crate::blocking::BlockingError;
use crate::io::{InputError, OpenError, StreamId};
use crate::reaper::ReaperGone;
use crate::rootfs::RootfsError;
use crate::runc::spec::SpecError;
use crate::runc::RuncError;
use crate::sys::signal::Signal;

use super::exec::{EXECS_MAX, SPECS_MAX};
use super::ids::{ContainerId, ExecId, ProcessId};

/// Why something cannot be done to a task.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    #[error("container {0} not found")]
    NoContainer(ContainerId),
    #[error("exec {exec} of container {container} not found")]
    NoExec { container: ContainerId, exec: ExecId },
    #[error("container {0} already exists")]
    ContainerExists(ContainerId),
    #[error("exec {0} already exists")]
    ExecExists(ExecId),
    #[error("bundle {0} already exists")]
    BundleExists(ContainerId),
    #[error("stream {0} not found")]
    NoStream(StreamId),
    /// The state of the process does not allow it.
    #[error("cannot {op} {process}: it is {state}")]
    WrongState { op: &'static str, process: ProcessId, state: &'static str },
    /// It was added, but there is no process yet.
    #[error("process {0} was not started")]
    NotStarted(ProcessId),
    #[error("process {0} already finished")]
    Finished(ProcessId),
    /// As `Finished`, but for calls that ask for a process that runs.
    #[error("process {0} has gone")]
    ProcessGone(ProcessId),
    #[error("{end} of process {process} is not kept for the StdIO service")]
    NotServed { end: &'static str, process: ProcessId },
    #[error("write stdin of process {process}: {source}")]
    Stdin { process: ProcessId, source: InputError },
    #[error("init of container {0} is not running")]
    InitGone(ContainerId),
    /// Nothing new begins: the daemon is on its way down.
    #[error("the guest is shutting down")]
    Stopping,
    #[error("{0} took too long")]
    Deadline(&'static str),
    #[error("checkpoint needs criu, which is not in this image")]
    NoCriu,
    #[error("stats need cgroup v2, which this machine does not have")]
    NoCgroup,
    #[error("cgroup of container {0} does not exist")]
    CgroupGone(ContainerId),
    #[error("read cgroup of container {container}: {source}")]
    Stats { container: ContainerId, source: std::io::Error },
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Stdio(#[from] OpenError),
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    #[error(transparent)]
    Runc(#[from] RuncError),
    #[error(transparent)]
    Reaper(#[from] ReaperGone),
    #[error("send signal {signal} to {process}: {source}")]
    Signal { signal: Signal, process: ProcessId, source: std::io::Error },
    #[error("resize the terminal of {process}: {source}")]
    Resize { process: ProcessId, source: std::io::Error },
    #[error("{what} bundle {}: {source}", path.display())]
    Bundle { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("bundle {} is that of container {container}", path.display())]
    BundleInUse { path: PathBuf, container: ContainerId },
    #[error("container {0} has {EXECS_MAX} execs, which is the most there may be")]
    TooManyExecs(ContainerId),
    #[error(
        "execs of container {0} that wait for their start have {SPECS_MAX} bytes of specs, which is the most"
    )]
    TooManySpecs(ContainerId),
    /// Each costs descriptors, of which some are left for ending the others.
    #[error("there are as many processes as the guest has descriptors for")]
    TooManyProcesses,
    #[error(transparent)]
    Blocking(#[from] BlockingError),
}
