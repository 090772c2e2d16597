//! What differs between the hosts that may boot this guest: one table of settings, one struct that they end in.
//!
//! No other file asks which host it is; it reads the row it needs. A host's row is a source of settings like the others,
//! below all that a launcher may say (`config/`).

pub use crate::io::{StreamClose, StreamIds};
pub use crate::runc::spec::Policy;

/// What one host expects of its guest, with what was set in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The name of the host.
    pub name: &'static str,
    /// Who opens the RPC connection.
    pub mode: Mode,
    /// How streams are named on the stream port.
    pub stream_ids: StreamIds,
    /// How the end of a stream is made known to the host.
    pub stream_close: StreamClose,
    /// Who publishes TaskDelete.
    pub delete_event: DeleteEvent,
    /// Whether the guest powers off by itself once a PrepareShutdown was answered, its connection has closed, and nothing
    /// else is asked for.
    pub poweroff_after_prepare: bool,
    /// What is done to a `config.json` before the OCI runtime reads it.
    pub spec: Policy,
    /// What `System.Info` answers as version.
    pub version: String,
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

/// Where the OCI runtime is looked for; the first that exists is taken.
pub const RUNTIMES: [&str; 2] = ["/sbin/runc", "/sbin/crun"];

pub const MODES: [(&str, Mode); 2] = [("listen", Mode::Listen), ("dial", Mode::Dial)];

pub const STREAM_IDS: [(&str, StreamIds); 2] = [("numeric", StreamIds::Numeric), ("named", StreamIds::Named)];

pub const STREAM_CLOSES: [(&str, StreamClose); 2] =
    [("delete", StreamClose::Delete), ("eof", StreamClose::Eof)];

pub const DELETE_EVENTS: [(&str, DeleteEvent); 2] =
    [("guest", DeleteEvent::Guest), ("host", DeleteEvent::Host)];

pub const SPECS: [(&str, Policy); 2] = [("as-is", Policy::AsIs), ("relaxed", Policy::Relaxed)];

/// The settings in which a host differs from the defaults: key and value.
pub type Differences = &'static [(&'static str, &'static str)];

/// All hosts that are known. The first is the default, and the defaults are made for it.
pub const HOSTS: [(&str, Differences); 3] = [
    ("generic", &[]),
    ("spinbox", &[("delete_event", "host"), ("spec", "relaxed"), ("poweroff_after_prepare", "true")]),
    ("nerdbox", &[("mode", "dial"), ("stream_ids", "named"), ("report_version", "dev")]),
];
