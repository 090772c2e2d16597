//! The table of settings: their names, what they take, their defaults, and why. Pure.

use super::settings::Source;
use super::typed::{ExtrasDisk, ENDINGS};
use super::value::{names, Form, Kind};
use crate::logging::FORMATS;
use crate::profile::{BUILD_VERSION, DELETE_EVENTS, HOSTS, MODES, SPECS, STREAM_CLOSES, STREAM_IDS};
use crate::rootfs::names_device;
use crate::sys::host_name::is_host_name;
use crate::sys::sysctl;

/// What is known about a key.
pub(super) struct Row {
    key: Key,
    /// As the file spells it; flags and the kernel command line may have `-` for `_`.
    name: &'static str,
    kind: Kind,
    /// As a source would spell it; empty if there is none.
    default: &'static str,
    help: &'static str,
}

/// Makes the keys and the table of their rows in one go, so that each key is at its own place in it.
macro_rules! keys {
    ($($(#[$why:meta])* $key:ident = $name:literal, $kind:expr, $default:expr, $help:literal;)*) => {
        /// One setting; its place in [`KEYS`] is its discriminant.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Key { $($(#[$why])* $key,)* }

        const KEYS: &[Row] =
            &[$(Row { key: Key::$key, name: $name, kind: $kind, default: $default, help: $help },)*];
    };
}

keys! {
    // Orders to this start, and where the other sources are.
    Version = "version", Kind::Order, "", "print the version and exit";
    V = "v", Kind::Order, "", "the same as -version";
    PrintConfig = "print_config", Kind::Order, "",
        "print all keys, their values and where these come from, and exit";
    Config = "config", Kind::Text(FILE), "", "the file to read, in place of /etc/vminitd.json";
    Cmdline = "cmdline", Kind::Text(FILE), "", "the file to read in place of /proc/cmdline";

    // The host, and the rows of its profile.
    Host = "host", Kind::Choice(&names(&HOSTS)), "generic", "the host whose expectations are met";
    Mode = "mode", Kind::Choice(&names(&MODES)), "listen", "who opens the RPC connection";
    VsockRpcPort = "vsock_rpc_port", PORT, "1024", "vsock port of the ttrpc services";
    VsockStreamPort = "vsock_stream_port", PORT, "1025", "vsock port of the stdio streams";
    VsockCid = "vsock_cid", Kind::Text(ANYTHING), "",
        "accepted and ignored: every CID of the machine is bound";
    StreamIds = "stream_ids", Kind::Choice(&names(&STREAM_IDS)), "numeric",
        "how streams are named on the stream port";
    StreamClose = "stream_close", Kind::Choice(&names(&STREAM_CLOSES)), "delete",
        "when a finished output stream is closed";
    DeleteEvent = "delete_event", Kind::Choice(&names(&DELETE_EVENTS)), "guest", "who publishes TaskDelete";
    Spec = "spec", Kind::Choice(&names(&SPECS)), "as-is",
        "what is done to config.json before the OCI runtime reads it";
    PoweroffAfterPrepare = "poweroff_after_prepare", Kind::Bool, "false",
        "power off by itself after PrepareShutdown";
    ReportVersion = "report_version", Kind::Text(WORD), BUILD_VERSION, "what System.Info answers as version";
    Runtime = "runtime", Kind::Text(PATH), "",
        "the OCI runtime, in place of the first of /sbin/runc and /sbin/crun";

    // Where an ordinary process lives.
    Listen = "listen", Kind::Text(UNIX), "", "serve ttrpc on a Unix socket in place of vsock";
    StreamListen = "stream_listen", Kind::Text(UNIX), "",
        "serve the stdio streams on a Unix socket in place of vsock";
    StateDir = "state_dir", Kind::Text(PATH), "",
        "keep bundles and the runtime's state beneath this directory";

    // What is told.
    Debug = "debug", Kind::Bool, "false", "log at level debug";
    Log = "log", Kind::Choice(&names(&FORMATS)), "text", "the form of log lines";
    Profile = "profile", Kind::Bool, "false", "tell how long each phase of the boot took";

    // What boot prepares.
    Hostname = "hostname", Kind::Text(HOSTNAME), "", "the name of the VM";
    Sysctls = "sysctls", Kind::List(SYSCTL), "", "kernel parameters to set, each name=value";
    /// Longer than any VM that boots at all needs to probe a disk.
    DeviceWaitMs = "device_wait_ms", Kind::Number { min: 0, max: 600_000 }, "5000",
        "how long a block device may take to appear";
    Devices = "devices", Kind::List(DEVICE), "", "block devices that boot waits for";
    ExtrasDisk = "extras_disk", Kind::Text(EXTRAS), "",
        "the disk with files for the root: its index among the virtio disks, or as above";
    ExtrasForce = "extras_force", Kind::Bool, "false", "take the files of that disk again";
    Ip = "ip", Kind::List(ANYTHING), "", "static addresses, each in the kernel's form";
    /// What spinbox's own guest waits: 20 looks with 50 ms between them. It delays readiness, so it is short.
    NetWaitMs = "net_wait_ms", Kind::Number { min: 0, max: 60_000 }, "1000",
        "how long a network device may take to appear";
    MetadataAddr = "metadata_addr", Kind::Bool, "false", "a route to 169.254.169.254 by the gateway";

    // The agent and the end.
    Supervisor = "supervisor", Kind::Text(PATH), "",
        "the guest agent, in place of the places it is looked for";
    /// A host creates its container within seconds; one that creates none shall have its agent all the same.
    SupervisorDelayMs = "supervisor_delay_ms", Kind::Number { min: 0, max: 86_400_000 }, "10000",
        "how long after boot the agent is started without a container";
    OnSigint = "on_sigint", ENDING, "poweroff", "what SIGINT does, which is Ctrl-Alt-Del";
    OnFatal = "on_fatal", ENDING, "poweroff", "what is done when the guest cannot go on";

    // Bounds.
    /// What is in a pipe is read in far less, and a pipe that a stray grandchild holds open must not hold the exit back.
    IoDrainMs = "io_drain_ms", Kind::Number { min: 1, max: 60_000 }, "500",
        "how long an exit waits for the rest of the output";
    /// A slow reader deserves it, an absent one does not.
    DeleteDrainMs = "delete_drain_ms", Kind::Number { min: 0, max: 600_000 }, "10000",
        "how long Delete waits for the host to take the output";
    /// For the runtime's delete, which is done in a fraction of it, and the way back.
    DeleteMarginMs = "delete_margin_ms", Kind::Number { min: 0, max: 60_000 }, "2000",
        "what Delete leaves of its caller's deadline for its own work";
    /// What was written before CloseIO may come after it; spinbox's host looks for input every 50 ms.
    CloseioIdleMs = "closeio_idle_ms", Kind::Number { min: 0, max: 60_000 }, "100",
        "how long a stdin that CloseIO ends must be silent first";
    /// A host says it in its first write.
    StreamHandshakeMs = "stream_handshake_ms", Kind::Number { min: 10, max: 600_000 }, "5000",
        "how long a stream connection may take to name its stream";
    /// A Create that uses the stream follows within seconds.
    StreamUnclaimedMs = "stream_unclaimed_ms", Kind::Number { min: 100, max: 86_400_000 }, "60000",
        "how long a stream that no task asks for is kept";
    /// A snapshot of a disk takes seconds; whatever writes stands still as long.
    FreezeMaxS = "freeze_max_s", Kind::Number { min: 1, max: 3_600 }, "60",
        "how long file systems stay frozen without being thawed";
    /// A process takes nine descriptors at most, so this is good for some 5,000 of them, and for ending them. The kernel
    /// allows a million (fs.nr_open).
    Nofile = "nofile", Kind::Number { min: 1_024, max: 1_048_576 }, "65536", "open files of the daemon";
    /// Some hundred containers that start and stop.
    EventReplay = "event_replay", Kind::Number { min: 16, max: 65_536 }, "4096",
        "events kept for a subscriber that is not there";
    /// A host has a handful; the bound is against a runaway one.
    RequestsInFlight = "requests_in_flight", Kind::Number { min: 1, max: 1_024 }, "64",
        "calls that do something, at a time and connection";
    /// Two of the largest messages. One must fit, or it would never be taken.
    UnreadBytes = "unread_bytes", Kind::Number { min: 4 << 20, max: 256 << 20 }, "8388608",
        "messages that handlers have not taken, by connection";
    /// They set up namespaces and mounts on a disk that may be cold.
    RuncCreateS = "runc_create_s", RUNC, "60", "how long the runtime's create and exec may take";
    RuncChangeS = "runc_change_s", RUNC, "30", "the same for start, delete, pause, resume and update";
    RuncQueryS = "runc_query_s", RUNC, "10", "the same for kill and ps";
    /// All memory of a container goes to a disk.
    RuncCheckpointS = "runc_checkpoint_s", Kind::Number { min: 1, max: 86_400 }, "600",
        "the same for checkpoint, of a caller without a deadline";
}

/// Port 0 has no use, and the highest number is VMADDR_PORT_ANY (vsock(7)).
const PORT: Kind = Kind::Number { min: 1, max: u32::MAX as u64 - 1 };

/// A call holds up its container, so it is over within an hour.
const RUNC: Kind = Kind::Number { min: 1, max: 3_600 };

const ENDING: Kind = Kind::Choice(&names(&ENDINGS));

const ANYTHING: Form = Form { expected: "any text", holds: |_| true };
const FILE: Form = Form { expected: "a path", holds: |text| !text.is_empty() };
const PATH: Form = Form { expected: "an absolute path", holds: is_absolute };
const WORD: Form = Form { expected: "1 to 64 characters without blanks", holds: |text| is_word(text, 64) };
const UNIX: Form = Form {
    expected: "unix:// and an absolute path",
    holds: |text| text.strip_prefix("unix://").is_some_and(is_absolute),
};
const HOSTNAME: Form =
    Form { expected: "a host name of letters, digits, - and ., 64 at most", holds: is_host_name };
const SYSCTL: Form = Form { expected: "name=value", holds: is_sysctl };
const DEVICE: Form =
    Form { expected: "a path in /dev, serial:<serial>, label:<label> or uuid:<uuid>", holds: names_device };
const EXTRAS: Form = Form {
    expected: "a number from 0 to 65535, a path in /dev, serial:<serial>, label:<label> or uuid:<uuid>",
    holds: |text| ExtrasDisk::named(text).is_some(),
};

fn is_absolute(text: &str) -> bool {
    text.starts_with('/')
}

fn is_word(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_sysctl(text: &str) -> bool {
    text.split_once('=').is_some_and(|(name, _)| sysctl::Name::parse(name).is_some())
}

impl Key {
    pub(super) fn all() -> impl Iterator<Item = Key> {
        KEYS.iter().map(|row| row.key)
    }

    /// The key of that name, with `-` for `_` or not.
    pub(super) fn named(name: &str) -> Option<Key> {
        let same = |a: u8, b: u8| a == b || (a == b'-' && b == b'_');
        let is = |row: &&Row| {
            row.name.len() == name.len() && name.bytes().zip(row.name.bytes()).all(|(a, b)| same(a, b))
        };
        KEYS.iter().find(is).map(|row| row.key)
    }

    pub(super) fn name(self) -> &'static str {
        self.row().name
    }

    pub(super) fn kind(self) -> Kind {
        self.row().kind
    }

    /// Whether sources other than the flags may give it.
    pub(super) fn is_setting(self) -> bool {
        !matches!(self.kind(), Kind::Order)
    }

    /// Where a source is, only one above it can say: that is read before.
    pub(super) fn is_taken_from(self, from: Source) -> bool {
        match self {
            Key::Config => from > Source::File,
            Key::Cmdline => from > Source::CommandLine,
            _ => true,
        }
    }

    pub(super) fn default(self) -> &'static str {
        self.row().default
    }

    pub(super) fn help(self) -> &'static str {
        self.row().help
    }

    fn row(self) -> &'static Row {
        &KEYS[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::Given;
    use super::*;

    #[test]
    fn every_key_is_found_by_its_name_with_either_dash() {
        for key in Key::all() {
            assert_eq!(Key::named(key.name()), Some(key));
            assert_eq!(Key::named(&key.name().replace('_', "-")), Some(key));
        }
        assert_eq!((Key::named(""), Key::named("hos"), Key::named("hosts")), (None, None, None));
    }

    #[test]
    fn every_default_is_what_its_key_takes() {
        for key in Key::all().filter(|key| !key.default().is_empty()) {
            let given = Given::Text(key.default().to_owned());
            assert!(key.kind().read(&given).is_some(), "{}", key.name());
        }
        // What is read without asking whether it is there has a default.
        for key in Key::all() {
            let read_always = matches!(key.kind(), Kind::Bool | Kind::Number { .. } | Kind::Choice(_));
            assert!(!read_always || !key.default().is_empty(), "{}", key.name());
        }
    }
}
