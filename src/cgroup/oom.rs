//! Watching for the OOM killer: an inotify of `memory.events`.
//!
//! Each watch is an inotify instance of its own, so it needs no table and no task to share. The price is the bound of
//! `fs.inotify.max_user_instances`, 128 by default for all that root runs in the VM; raising it is the boot's. A watch
//! beyond it is refused with `EMFILE`, and the count can still be read when the container ends.

use std::io::{self, ErrorKind};

use super::Cgroup;
use crate::sys::inotify::Changes;

/// The kernel reports a change of it at most every 10 ms (`CGROUP_FILE_NOTIFY_MIN_INTV`), so its watcher cannot spin.
pub(super) const MEMORY_EVENTS: &str = "memory.events";

/// Says whether a process is left. Watched too, because kernfs removes the files of a group without a word to inotify;
/// containerd's watcher takes its end from here as well (containerd/cgroups#212).
pub(super) const CGROUP_EVENTS: &str = "cgroup.events";

/// News of one group's `memory.events`. Closed on drop.
#[derive(Debug)]
pub struct OomWatch {
    cgroup: Cgroup,
    changes: Changes,
    /// A group that has become empty stays so: runc refuses to exec into a container that has ended.
    populated: bool,
}

impl Cgroup {
    /// Arms the watch: what changes from now on is told. `Ok(None)` if the group is gone or has no memory controller.
    /// Needs a tokio runtime. Blocks shortly.
    ///
    /// # Errors
    /// Those of inotify(7): `EMFILE`, `ENOSPC` at the user's bounds.
    pub fn watch_oom(&self) -> io::Result<Option<OomWatch>> {
        let changes = match Changes::of(&[&self.file(MEMORY_EVENTS), &self.file(CGROUP_EVENTS)]) {
            Ok(changes) => changes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // Read after arming: the last process cannot end unseen in between.
        let populated = self.is_populated()?;
        Ok(Some(OomWatch { cgroup: self.clone(), changes, populated }))
    }
}

impl OomWatch {
    /// Waits for a change and reads `oom_kill`; `None` once the group is empty or gone and its last count was given.
    /// A burst is one change. The number may be that of the last time: the file counts more than kills. Cancel safe.
    pub async fn next(&mut self) -> Option<u64> {
        while self.populated {
            self.changes.next().await.ok()?;
            // Both reads may be made here: the kernel prints these counters without waiting for anything in the group.
            // In this order, because a kill is counted before its victim can leave the group.
            self.populated = self.cgroup.is_populated().unwrap_or(true);
            // An error is a want of descriptors or memory: it may pass, and the next change finds the count there.
            if let Ok(count) = self.cgroup.oom_kills() {
                self.populated &= count.is_some();
                return count;
            }
        }
        None
    }
}
