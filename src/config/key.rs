//! The table of settings: their names, what they take, and the one function that gives them a value.

use std::path::PathBuf;

use super::{Address, Problem};
use crate::profile::{Policy, Profile, StreamClose, StreamIds};

/// One setting; its place in [`KEYS`] is its discriminant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Debug,
    Version,
    V,
    Host,
    VsockRpcPort,
    VsockStreamPort,
    VsockCid,
    Listen,
    StreamListen,
    StateDir,
    Runtime,
    StreamIds,
    StreamClose,
    Spec,
}

struct Row {
    key: Key,
    name: &'static str,
    /// What a value looks like; completes "expected ...".
    expected: &'static str,
    help: &'static str,
}

const BOOL: &str = "true or false";
const PORT: &str = "a port from 1 to 4294967294";
const ADDRESS: &str = "unix:// and an absolute path";
const PATH: &str = "an absolute path";

const fn row(key: Key, name: &'static str, expected: &'static str, help: &'static str) -> Row {
    Row { key, name, expected, help }
}

const KEYS: [Row; 14] = [
    row(Key::Debug, "debug", BOOL, "log at level debug"),
    row(Key::Version, "version", BOOL, "print the version and exit"),
    row(Key::V, "v", BOOL, "the same as -version"),
    row(Key::Host, "host", "generic, spinbox or nerdbox", "the host whose expectations are met"),
    row(Key::VsockRpcPort, "vsock-rpc-port", PORT, "vsock port of the ttrpc services"),
    row(Key::VsockStreamPort, "vsock-stream-port", PORT, "vsock port of the stdio streams"),
    row(Key::VsockCid, "vsock-cid", "anything", "accepted and ignored: every CID of the machine is bound"),
    row(Key::Listen, "listen", ADDRESS, "serve ttrpc on a Unix socket in place of vsock"),
    row(
        Key::StreamListen,
        "stream-listen",
        ADDRESS,
        "serve the stdio streams on a Unix socket in place of vsock",
    ),
    row(Key::StateDir, "state-dir", PATH, "keep bundles and the runtime's state beneath this directory"),
    row(Key::Runtime, "runtime", PATH, "the OCI runtime"),
    row(Key::StreamIds, "stream-ids", "numeric or named", "how streams are named on the stream port"),
    row(Key::StreamClose, "stream-close", "delete or eof", "when a finished output stream is closed"),
    row(Key::Spec, "spec", "as-is or relaxed", "what is done to config.json before the OCI runtime reads it"),
];

impl Key {
    pub(super) fn all() -> impl Iterator<Item = Key> {
        KEYS.iter().map(|row| row.key)
    }

    pub(super) fn named(name: &str) -> Option<Key> {
        KEYS.iter().find(|row| row.name == name).map(|row| row.key)
    }

    pub(super) fn name(self) -> &'static str {
        self.row().name
    }

    pub(super) fn help(self) -> &'static str {
        self.row().help
    }

    /// A flag of this key may stand without a value, which then is `true`.
    pub(super) fn is_bool(self) -> bool {
        self.row().expected == BOOL
    }

    fn row(self) -> &'static Row {
        &KEYS[self as usize]
    }
}

/// The values that were given; what is `None` comes from the profile.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) debug: bool,
    pub(super) version: bool,
    pub(super) host: Option<Profile>,
    pub(super) rpc_port: Option<u32>,
    pub(super) stream_port: Option<u32>,
    pub(super) listen: Option<Address>,
    pub(super) stream_listen: Option<Address>,
    pub(super) state_dir: Option<PathBuf>,
    pub(super) runtime: Option<PathBuf>,
    pub(super) stream_ids: Option<StreamIds>,
    pub(super) stream_close: Option<StreamClose>,
    pub(super) spec: Option<Policy>,
}

impl Settings {
    /// Gives `key` a value, replacing an earlier one. A value that cannot be read leaves the earlier one.
    pub(super) fn set(&mut self, key: Key, value: &str) -> Result<(), Problem> {
        self.try_set(key, value).ok_or_else(|| Problem::BadValue {
            name: key.name(),
            value: value.to_owned(),
            expected: key.row().expected,
        })
    }

    fn try_set(&mut self, key: Key, value: &str) -> Option<()> {
        match key {
            Key::Debug => self.debug = boolean(value)?,
            Key::Version | Key::V => self.version = boolean(value)?,
            Key::Host => self.host = Some(Profile::named(value)?),
            Key::VsockRpcPort => self.rpc_port = Some(port(value)?),
            Key::VsockStreamPort => self.stream_port = Some(port(value)?),
            Key::VsockCid => {}
            Key::Listen => self.listen = Some(unix(value)?),
            Key::StreamListen => self.stream_listen = Some(unix(value)?),
            Key::StateDir => self.state_dir = Some(absolute(value)?),
            Key::Runtime => self.runtime = Some(absolute(value)?),
            Key::StreamIds => self.stream_ids = Some(stream_ids(value)?),
            Key::StreamClose => self.stream_close = Some(stream_close(value)?),
            Key::Spec => self.spec = Some(spec(value)?),
        }
        Some(())
    }
}

/// The spellings that Go's `strconv.ParseBool` takes, because hosts write their flags for Go.
fn boolean(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Port 0 has no use, and the highest number is VMADDR_PORT_ANY (vsock(7)).
fn port(value: &str) -> Option<u32> {
    value.parse().ok().filter(|port| (1..u32::MAX).contains(port))
}

fn unix(value: &str) -> Option<Address> {
    value.strip_prefix("unix://").and_then(absolute).map(Address::Unix)
}

fn absolute(value: &str) -> Option<PathBuf> {
    // A path with a null byte in it cannot be handed to the kernel.
    (value.starts_with('/') && !value.contains('\0')).then(|| PathBuf::from(value))
}

fn stream_ids(value: &str) -> Option<StreamIds> {
    match value {
        "numeric" => Some(StreamIds::Numeric),
        "named" => Some(StreamIds::Named),
        _ => None,
    }
}

fn stream_close(value: &str) -> Option<StreamClose> {
    match value {
        "delete" => Some(StreamClose::Delete),
        "eof" => Some(StreamClose::Eof),
        _ => None,
    }
}

fn spec(value: &str) -> Option<Policy> {
    match value {
        "as-is" => Some(Policy::AsIs),
        "relaxed" => Some(Policy::Relaxed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_at_its_own_row() {
        for (place, row) in KEYS.iter().enumerate() {
            assert_eq!(row.key as usize, place);
            assert_eq!(Key::named(row.name), Some(row.key));
        }
    }
}
