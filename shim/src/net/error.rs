//! Why a network namespace could not be read, joined to a virtual machine, or left again.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why there is no network, or why something of it may be left.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    #[error("enter the network namespace {}: {source}", path.display())]
    Namespace { path: PathBuf, source: io::Error },
    /// Somebody redirects what comes in there, perhaps to another virtual machine, and would lose it.
    #[error("join interface {0}: it has an ingress qdisc already")]
    Taken(String),
    /// Such as a tunnel: a virtual NIC carries nothing but Ethernet.
    #[error("join interface {name}: {kind} is no Ethernet")]
    NotEthernet { name: String, kind: String },
    /// The kernel refused something, or could not be asked.
    #[error("{step}: {source}")]
    Kernel { step: String, source: io::Error },
    #[error("see the network done within {0:?}")]
    Late(Duration),
    /// The thread that did it has panicked.
    #[error("finish with the network")]
    Lost,
}
