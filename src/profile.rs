//! What differs between the hosts that may boot this guest: one table, one struct.
//!
//! No other file asks which host it is; it reads the row it needs. Rows that a launcher must be able to change are
//! flags too: the ports, the way streams are named and closed, and what is done to a spec.

pub use crate::io::{StreamClose, StreamIds};
pub use crate::runc::spec::Policy;

/// What one host expects of its guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The name given to `-host`.
    pub name: &'static str,
    /// Who opens the RPC connection.
    pub mode: Mode,
    /// Port of the ttrpc services.
    pub rpc_port: u32,
    /// Port of the raw stdio streams.
    pub stream_port: u32,
    /// How streams are named on the stream port.
    pub stream_ids: StreamIds,
    /// How the end of a stream is made known to the host.
    pub stream_close: StreamClose,
    /// Who publishes TaskDelete.
    pub delete_event: DeleteEvent,
    /// What is done to a `config.json` before the OCI runtime reads it.
    pub spec: Policy,
    /// What `System.Info` answers as version.
    pub version: &'static str,
    /// Where the OCI runtime is looked for; the first that exists is taken.
    pub runtimes: &'static [&'static str],
}

/// Who opens the RPC connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The guest listens and the host dials.
    Listen,
    /// The guest dials back to the host.
    Dial,
}

/// Who publishes TaskDelete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteEvent {
    Guest,
    Host,
}

/// The version of this build.
pub const BUILD_VERSION: &str = env!("CARGO_PKG_VERSION");

const RUNTIMES: &[&str] = &["/sbin/runc", "/sbin/crun"];

const GENERIC: Profile = Profile {
    name: "generic",
    mode: Mode::Listen,
    rpc_port: 1024,
    stream_port: 1025,
    stream_ids: StreamIds::Numeric,
    stream_close: StreamClose::Delete,
    delete_event: DeleteEvent::Guest,
    spec: Policy::AsIs,
    version: BUILD_VERSION,
    runtimes: RUNTIMES,
};

/// All hosts that are known; the first is the default.
pub const PROFILES: [Profile; 3] = [
    GENERIC,
    Profile { name: "spinbox", delete_event: DeleteEvent::Host, spec: Policy::Relaxed, ..GENERIC },
    Profile { name: "nerdbox", mode: Mode::Dial, stream_ids: StreamIds::Named, version: "dev", ..GENERIC },
];

impl Profile {
    /// The profile called `name`, if there is one.
    pub fn named(name: &str) -> Option<Profile> {
        PROFILES.into_iter().find(|profile| profile.name == name)
    }
}
