//! What each room gets of the settings, in the room's own words.

use super::Config;
use crate::io::{RelaySettings, StreamSettings};
use crate::runc::{Deadlines, Settings};
use crate::sys::rlimit::Limit;
use crate::task::Bounds;

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

    pub fn task_bounds(&self) -> Bounds {
        Bounds {
            io_drain: self.bounds.io_drain,
            delete_drain: self.bounds.delete_drain,
            delete_margin: self.bounds.delete_margin,
            device_wait: self.bounds.device_wait,
        }
    }

    /// `file_limit` is what children start with; `no_pivot` says that the root cannot be pivoted away from.
    pub fn runc_settings(&self, file_limit: Limit, no_pivot: bool) -> Settings {
        Settings {
            binary: self.runtime(),
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
