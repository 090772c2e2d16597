//! What each room gets of the settings, in the room's own words.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use super::Config;
use crate::guest::freeze;
use crate::io::{RelaySettings, StreamClose, StreamSettings};
use crate::runc::{Deadlines, Settings};
use crate::supervisor;
use crate::sys::rlimit::Limit;
use crate::task::Bounds;
use crate::wire::{self, Farewell};

/// Descriptors for each process that there may be. It takes nine at most, before its start: a stream and both ends of a
/// pipe for each of stdin, stdout and stderr. So a quarter is left for connections, for streams that wait, for the runcs
/// under way, and for ending all those processes.
const DESCRIPTORS_OF_A_PROCESS: u64 = 12;

impl Config {
    pub fn stream_settings(&self) -> StreamSettings {
        StreamSettings {
            ids: self.profile.stream_ids,
            handshake: self.bounds.stream_handshake,
            unclaimed: self.bounds.stream_unclaimed,
        }
    }

    pub fn relay_settings(&self) -> RelaySettings {
        RelaySettings { close: self.profile.stream_close, stdin_idle: self.bounds.closeio_idle }
    }

    /// What does not tell a host of the end of a stream does not tell it of that of a connection either.
    pub fn wire_settings(&self) -> wire::Settings {
        wire::Settings {
            requests_in_flight: self.bounds.requests_in_flight,
            unread_bytes: self.bounds.unread_bytes,
            farewell: match self.profile.stream_close {
                StreamClose::Delete => Farewell::HalfClose,
                StreamClose::Eof => Farewell::Drain,
            },
        }
    }

    /// What a freeze is to affect: every disk of a VM of PID 1's own, else those that are mounted in its bundles.
    pub fn freeze_settings(&self, whole_machine: bool) -> freeze::Settings {
        let below = if whole_machine { PathBuf::from("/") } else { self.bundles_dir() };
        freeze::Settings { longest: self.bounds.freeze_max, below }
    }

    /// `own_limit` is how many files this process may have open.
    pub fn task_bounds(&self, own_limit: Limit) -> Bounds {
        Bounds {
            io_drain: self.bounds.io_drain,
            delete_drain: self.bounds.delete_drain,
            delete_margin: self.bounds.delete_margin,
            device_wait: self.bounds.device_wait,
            processes: (own_limit.soft.min(self.bounds.nofile) / DESCRIPTORS_OF_A_PROCESS) as usize,
        }
    }

    /// `file_limit` is what children start with.
    pub fn supervisor_settings(&self, file_limit: Limit) -> supervisor::Settings {
        supervisor::Settings {
            binary: self.supervisor.path.clone(),
            delay: self.supervisor.delay,
            root: self.state_dir.as_deref().unwrap_or(Path::new("/")).to_owned(),
            file_limit,
        }
    }

    /// `file_limit` is what children start with; `no_pivot` says that the root cannot be pivoted away from.
    pub fn runc_settings(&self, file_limit: Limit, no_pivot: bool) -> Settings {
        let config = self.clone();
        Settings {
            binary: LazyLock::new(Box::new(move || config.runtime())),
            root: self.runc_root(),
            scratch: self.scratch_dir(),
            no_pivot,
            file_limit,
            deadlines: Deadlines {
                create: self.bounds.runc_create,
                change: self.bounds.runc_change,
                query: self.bounds.runc_query,
                checkpoint: self.bounds.runc_checkpoint,
            },
        }
    }
}
