//! The ordered stop: why it begins, its steps, and whether the machine is off or starts anew at its end. Every step has a
//! bound, so that it always ends.

mod disks;
mod prepare;

use std::io;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::sync::{oneshot, watch};

use crate::events::Exchange;
use crate::flag::raised;
use crate::guest::booting::Booting;
use crate::guest::freeze::Freezer;
use crate::guest::power_button;
use crate::io::RelayTasks;
use crate::supervisor::Supervisor;
use crate::sys::power;
use crate::sys::signal::Signals;
use crate::task::Tasks;
use crate::tracked::Tracked;
pub use prepare::Preparer;

/// Signals that ask for the stop; all others are blocked and never read.
pub const SIGNALS: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGPWR];

/// Requests for PrepareShutdown that nobody has looked at yet. A host makes one.
pub const PREPARES: usize = 16;

/// A container is killed, told and removed in less than a second; a runc that hangs must not hold the stop for long.
const CONTAINERS: Duration = Duration::from_secs(20);

/// For readers to take the last output. Power-off waits for it: what is in the backend's buffer then is lost.
const OUTPUT: Duration = Duration::from_secs(10);

/// For the last replies and events to be written.
const REPLIES: Duration = Duration::from_secs(5);

/// For processes that were killed to go: those that wait for a dead disk never do.
const PROCESSES: Duration = Duration::from_secs(2);

/// Why the daemon stops.
#[derive(Debug, PartialEq, Eq)]
pub enum Cause {
    Signal(Signal),
    /// Task.Shutdown, with no container left.
    Request,
    /// PrepareShutdown was answered, its connection has closed, and nobody asked for anything since.
    Prepared,
    PowerButton,
    /// It cannot go on.
    Fatal(String),
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Cause::Signal(signal) => write!(f, "{signal}"),
            Cause::Request => f.write_str("Task.Shutdown"),
            Cause::Prepared => f.write_str("PrepareShutdown"),
            Cause::PowerButton => f.write_str("power button"),
            Cause::Fatal(reason) => write!(f, "fatal: {reason}"),
        }
    }
}

/// What becomes of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    PowerOff,
    Restart,
}

impl Ending {
    /// What the console says.
    pub fn name(self) -> &'static str {
        match self {
            Ending::PowerOff => "power off",
            Ending::Restart => "restart",
        }
    }
}

/// What becomes of the machine by what it was stopped for; for all else it is powered off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// After SIGINT, which is Ctrl-Alt-Del too.
    pub on_sigint: Ending,
    /// After what it cannot go on with.
    pub on_fatal: Ending,
}

impl Settings {
    pub fn ending(&self, cause: &Cause) -> Ending {
        match cause {
            Cause::Signal(Signal::SIGINT) => self.on_sigint,
            Cause::Fatal(_) => self.on_fatal,
            Cause::Signal(_) | Cause::Request | Cause::Prepared | Cause::PowerButton => Ending::PowerOff,
        }
    }
}

/// Where reasons to stop come from.
pub struct Reasons {
    pub signals: Signals,
    pub request: watch::Receiver<bool>,
    pub fatal: oneshot::Receiver<String>,
    pub prepare: Preparer,
    /// Whether the machine's power button is this process's business.
    pub power_button: bool,
}

/// Waits for the first reason to stop. Meanwhile PrepareShutdown is served.
pub async fn cause(reasons: Reasons) -> Cause {
    let Reasons { signals, mut request, fatal, prepare, power_button } = reasons;
    tokio::select! {
        signal = signals.next() => match signal {
            Ok(signal) => Cause::Signal(signal),
            Err(error) => Cause::Fatal(format!("read signals: {error}")),
        },
        () = raised(&mut request) => Cause::Request,
        reason = fatal => Cause::Fatal(reason.unwrap_or_else(|_| "the reaper is gone".to_owned())),
        () = prepare.serve() => Cause::Prepared,
        () = power_button::pressed(), if power_button => Cause::PowerButton,
    }
}

/// What has to be stopped.
pub struct Running {
    pub booting: Booting,
    pub freezer: Freezer,
    pub tasks: Tasks,
    pub supervisor: Supervisor,
    pub relays: RelayTasks,
    pub exchange: Exchange,
    /// Connections, and the loops that accept them.
    pub connections: Tracked,
    /// PrepareShutdowns under way.
    pub prepares: Tracked,
    /// Tells the connections to end.
    pub stop: watch::Sender<bool>,
}

/// The boot ended where it is, everything thawed, no new work, containers and the agent killed, output taken, events and
/// replies written.
pub async fn stop(running: Running) {
    // Calls that wait for it are refused now.
    running.booting.give_up();
    // A process that waits to write cannot be killed before.
    running.freezer.stop().await;
    tokio::join!(
        running.tasks.stop_all(CONTAINERS),
        // It tears down too; what one has begun the other leaves alone.
        running.prepares.finish(CONTAINERS),
        running.supervisor.stop(),
    );
    running.relays.finish(OUTPUT).await;
    running.exchange.close();
    running.stop.send_replace(true);
    if !running.connections.finish(REPLIES).await {
        tracing::warn!("connections were dropped with calls in flight");
    }
}

/// Leaves nothing that runs and nothing that is mounted. For PID 1, when all else has ended. Blocks, within its bounds.
pub fn release_machine() {
    match power::kill_all_others(PROCESSES) {
        Ok(true) => {}
        Ok(false) => tracing::warn!("processes are left that do not die"),
        Err(error) => tracing::error!(%error, "cannot kill what is left"),
    }
    disks::release_all();
}

/// Ends the machine at once; it returns only if the kernel refuses.
pub fn end_machine(ending: Ending) -> io::Error {
    match ending {
        Ending::PowerOff => power::off(),
        Ending::Restart => power::restart(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_restarts_the_machine_only_where_that_is_set() {
        use Ending::{PowerOff, Restart};
        let causes = || {
            let fatal = Cause::Fatal("reaper".to_owned());
            let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGPWR].map(Cause::Signal);
            signals.into_iter().chain([Cause::Request, Cause::Prepared, Cause::PowerButton, fatal])
        };
        for (on_sigint, on_fatal) in [(PowerOff, PowerOff), (Restart, PowerOff), (PowerOff, Restart)] {
            let settings = Settings { on_sigint, on_fatal };
            let endings: Vec<_> = causes().map(|cause| settings.ending(&cause)).collect();
            assert_eq!(endings, [on_sigint, PowerOff, PowerOff, PowerOff, PowerOff, PowerOff, on_fatal]);
        }
    }
}
