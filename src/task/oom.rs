//! Kills by the kernel's OOM killer: told as they happen, and in any case before the exit they lead to.
//!
//! The files read here are counters in the kernel's memory, which no disk can hold up, so they are read in place.

use std::sync::Arc;

use super::container::Container;
use super::gate::Input;
use super::ids::ProcessId;
use crate::cgroup::OomWatch;
use crate::reaper::{Exit, Reaped};

/// Begins to watch, before anything runs in the container. What the counter says now is not news.
pub(super) fn arm(container: &Container) -> Option<OomWatch> {
    let cgroup = container.cgroup.as_ref()?;
    let armed = cgroup.oom_kills().and_then(|kills| {
        container.processes().oom_kills = kills.unwrap_or_default();
        cgroup.watch_oom()
    });
    // Its end is told all the same, and then the counter is read.
    armed.unwrap_or_else(|error| {
        tracing::warn!(container = %container.id, %error, "cannot watch for OOM kills");
        None
    })
}

/// Tells of OOM kills until the exit of the init was told or the cgroup is gone.
pub(super) async fn watch(container: Arc<Container>, mut watch: OomWatch) {
    let mut ended = std::pin::pin!(container.wait(&ProcessId::Init));
    loop {
        tokio::select! {
            kills = watch.next() => match kills {
                Some(kills) => container.note_oom_kills(&mut container.processes(), kills),
                None => return,
            },
            _ = &mut ended => return,
        }
    }
}

/// Reads the counter once more for a process that was reaped, and lets its exit pass.
pub(super) fn read_last(container: &Container, who: &ProcessId, reaped: Reaped) {
    let kills = match (&container.cgroup, may_be_oom(who, reaped.exit)) {
        (Some(cgroup), true) => cgroup.oom_kills().unwrap_or_else(|error| {
            tracing::warn!(container = %container.id, %error, "cannot count OOM kills");
            None
        }),
        _ => None,
    };
    let mut processes = container.processes();
    if let Some(kills) = kills {
        container.note_oom_kills(&mut processes, kills);
    }
    container.feed(&mut processes, who, Input::OomRead);
}

/// Whether the counter may tell of this exit: the OOM killer sends SIGKILL, and an init may end because of what was
/// killed beside it.
fn may_be_oom(who: &ProcessId, exit: Exit) -> bool {
    *who == ProcessId::Init || exit == Exit::Signal(libc::SIGKILL as u8)
}
