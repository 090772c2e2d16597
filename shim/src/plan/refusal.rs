//! What a microVM cannot give to a container, in words that name it.

use std::path::PathBuf;

/// Why a spec is refused. The text is what the user of `ctr`, nerdctl or docker reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A member has a value of another kind than the OCI runtime spec gives it.
    #[error("{0} of the spec is malformed")]
    Malformed(&'static str),
    #[error("user namespaces are not supported in a microVM")]
    UserNamespace,
    #[error("the host's {0} namespace is not supported in a microVM")]
    HostNamespace(&'static str),
    #[error("the {kind} namespace {path} of another container is not supported in a microVM")]
    SharedNamespace { kind: &'static str, path: String },
    #[error("the network namespace {0} belongs to another task, and cannot be shared with a microVM")]
    NetworkOfTask(String),
    #[error("{0} hooks run inside the container, and are not supported in a microVM")]
    Hook(&'static str),
    #[error("cannot bind {source} to {destination}: {why} not supported in a microVM", source = .source_path.display())]
    Bind { source_path: PathBuf, destination: String, why: &'static str },
    #[error("cannot bind {source} to {destination}: there is no such file or directory", source = .source_path.display())]
    NoSource { source_path: PathBuf, destination: String },
    #[error("the mount type {kind:?} of {destination} is not supported in a microVM")]
    MountType { kind: String, destination: String },
    #[error("the id-mapped mount {0} is not supported in a microVM")]
    IdMapped(String),
    #[error("the device {0} is not in a microVM")]
    Device(String),
    #[error("seccomp notifications to {0} are not supported in a microVM")]
    SeccompListener(String),
}
