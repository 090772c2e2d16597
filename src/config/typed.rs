//! Settings as the rooms read them: typed, complete, and in groups. What each is for and why it is what it is stands in
//! `key.rs`.

use std::path::PathBuf;
use std::time::Duration;

use super::key::Key;
use super::settings::Settings;
use crate::rootfs::names_device;
use crate::shutdown::{self, Ending};
use crate::sys::sysctl;

/// Times, sizes and counts that nothing may exceed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// How long an exit waits for the rest of a process's output.
    pub io_drain: Duration,
    /// How long Delete waits for the host to take the output.
    pub delete_drain: Duration,
    /// What Delete leaves of its caller's deadline for its own work and the way back.
    pub delete_margin: Duration,
    /// How long a stdin that CloseIO is to end must be silent first.
    pub closeio_idle: Duration,
    /// How long a new stream connection may take to say which stream it is.
    pub stream_handshake: Duration,
    /// How long a stream that no task asks for is kept.
    pub stream_unclaimed: Duration,
    /// How long a block device that a Create or the configuration names may take to appear.
    pub device_wait: Duration,
    /// How long file systems stay frozen without being thawed, in guest time.
    pub freeze_max: Duration,
    /// RLIMIT_NOFILE of the daemon.
    pub nofile: u64,
    /// Events kept for a subscriber that is not there.
    pub event_replay: usize,
    /// Calls that do something, at a time and connection.
    pub requests_in_flight: usize,
    /// Bytes of messages that handlers have not taken yet, by connection.
    pub unread_bytes: usize,
    /// `runc create` and `exec`.
    pub runc_create: Duration,
    /// `runc` calls that change a container: start, delete, pause, resume, update.
    pub runc_change: Duration,
    /// `runc` calls that only look or signal: kill and ps.
    pub runc_query: Duration,
    /// `runc checkpoint` of a caller without a deadline.
    pub runc_checkpoint: Duration,
}

impl Bounds {
    pub(super) fn of(settings: &Settings) -> Bounds {
        // The table's bounds on these fit into every machine word.
        let count = |key| usize::try_from(settings.number(key)).unwrap_or(usize::MAX);
        Bounds {
            io_drain: settings.millis(Key::IoDrainMs),
            delete_drain: settings.millis(Key::DeleteDrainMs),
            delete_margin: settings.millis(Key::DeleteMarginMs),
            closeio_idle: settings.millis(Key::CloseioIdleMs),
            stream_handshake: settings.millis(Key::StreamHandshakeMs),
            stream_unclaimed: settings.millis(Key::StreamUnclaimedMs),
            device_wait: settings.millis(Key::DeviceWaitMs),
            freeze_max: settings.seconds(Key::FreezeMaxS),
            nofile: settings.number(Key::Nofile),
            event_replay: count(Key::EventReplay),
            requests_in_flight: count(Key::RequestsInFlight),
            unread_bytes: count(Key::UnreadBytes),
            runc_create: settings.seconds(Key::RuncCreateS),
            runc_change: settings.seconds(Key::RuncChangeS),
            runc_query: settings.seconds(Key::RuncQueryS),
            runc_checkpoint: settings.seconds(Key::RuncCheckpointS),
        }
    }
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds::of(&Settings::default())
    }
}

/// What boot prepares besides what every VM gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    pub hostname: Option<String>,
    /// In the order to set them.
    pub sysctls: Vec<(sysctl::Name, String)>,
    /// Block devices to wait for: a path in `/dev`, `serial:<serial>`, a label or a UUID.
    pub devices: Vec<String>,
    /// The disk with files for the root.
    pub extras_disk: Option<ExtrasDisk>,
    /// Its files are taken even if that was done in this boot.
    pub extras_force: bool,
    /// What `ip=` says on the kernel command line, one for each device, as it stands there.
    pub ip: Vec<String>,
    /// How long a network device may take to appear.
    pub net_wait: Duration,
    /// A route to 169.254.169.254 by the gateway is wanted.
    pub metadata_addr: bool,
    /// The time of each phase is told on the console.
    pub profile: bool,
}

impl Machine {
    pub(super) fn of(settings: &Settings) -> Machine {
        let pair = |item: &String| {
            let (name, value) = item.split_once('=')?;
            Some((sysctl::Name::parse(name)?, value.to_owned()))
        };
        Machine {
            hostname: settings.text(Key::Hostname).map(str::to_owned),
            sysctls: settings.list(Key::Sysctls).iter().filter_map(pair).collect(),
            devices: settings.list(Key::Devices).to_vec(),
            extras_disk: settings.text(Key::ExtrasDisk).and_then(ExtrasDisk::named),
            extras_force: settings.bool(Key::ExtrasForce),
            ip: settings.list(Key::Ip).to_vec(),
            net_wait: settings.millis(Key::NetWaitMs),
            metadata_addr: settings.bool(Key::MetadataAddr),
            profile: settings.bool(Key::Profile),
        }
    }
}

impl Default for Machine {
    fn default() -> Machine {
        Machine::of(&Settings::default())
    }
}

/// How the disk with files for the root is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExtrasDisk {
    /// Its place among the virtio disks, from 0. There are 65,536 at most: 20 bits of minor number, 4 of them for
    /// partitions (Linux, drivers/block/virtio_blk.c).
    Index(u16),
    /// As in the source of a mount of a Create.
    Named(String),
}

impl ExtrasDisk {
    pub(super) fn named(text: &str) -> Option<ExtrasDisk> {
        match text.parse() {
            Ok(index) => Some(ExtrasDisk::Index(index)),
            Err(_) => names_device(text).then(|| ExtrasDisk::Named(text.to_owned())),
        }
    }
}

/// The guest agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supervisor {
    /// Where it is, in place of where it is looked for.
    pub path: Option<PathBuf>,
    /// How long after boot it is started if no container was created.
    pub delay: Duration,
}

impl Supervisor {
    pub(super) fn of(settings: &Settings) -> Supervisor {
        Supervisor {
            path: settings.text(Key::Supervisor).map(PathBuf::from),
            delay: settings.millis(Key::SupervisorDelayMs),
        }
    }
}

/// How the machine ends.
pub(super) const ENDINGS: [(&str, Ending); 2] = [("poweroff", Ending::PowerOff), ("reboot", Ending::Restart)];

pub(super) fn power(settings: &Settings) -> shutdown::Settings {
    shutdown::Settings {
        on_sigint: settings.choice(Key::OnSigint, &ENDINGS).1,
        on_fatal: settings.choice(Key::OnFatal, &ENDINGS).1,
    }
}
