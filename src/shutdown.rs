//! The ordered stop: why it begins, and its steps. Every step has a bound, so that it always ends.

use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::sync::{oneshot, watch};

use crate::events::Exchange;
use crate::io::RelayTasks;
use crate::sys::signal::Signals;
use crate::sys::{mount, power};
use crate::task::Tasks;
use crate::tracked::Tracked;

/// Signals that ask for the stop; all others are blocked and never read.
pub const SIGNALS: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGPWR];

/// A container is killed, told and removed in less than a second; a runc that hangs must not hold the stop for long.
const CONTAINERS: Duration = Duration::from_secs(20);

/// For readers to take the last output. Power-off waits for it: what is in the backend's buffer then is lost.
const OUTPUT: Duration = Duration::from_secs(10);

/// For the last replies and events to be written.
const REPLIES: Duration = Duration::from_secs(5);

/// For each of unmounting and writing back; a disk that has gone away never answers.
const DISKS: Duration = Duration::from_secs(10);

/// Why the daemon stops.
#[derive(Debug)]
pub enum Cause {
    Signal(Signal),
    /// Task.Shutdown, with no container left.
    Request,
    /// It cannot go on.
    Fatal(String),
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Cause::Signal(signal) => write!(f, "{signal}"),
            Cause::Request => f.write_str("Task.Shutdown"),
            Cause::Fatal(reason) => write!(f, "fatal: {reason}"),
        }
    }
}

/// Waits for the first reason to stop.
pub async fn cause(
    signals: &Signals,
    mut request: watch::Receiver<bool>,
    fatal: oneshot::Receiver<String>,
) -> Cause {
    tokio::select! {
        signal = signals.next() => match signal {
            Ok(signal) => Cause::Signal(signal),
            Err(error) => Cause::Fatal(format!("read signals: {error}")),
        },
        _ = request.wait_for(|asked| *asked) => Cause::Request,
        reason = fatal => Cause::Fatal(reason.unwrap_or_else(|_| "the reaper is gone".to_owned())),
    }
}

/// What has to be stopped.
pub struct Running {
    pub tasks: Tasks,
    pub relays: RelayTasks,
    pub exchange: Exchange,
    /// Connections, and the loops that accept them.
    pub connections: Tracked,
    /// Tells the connections to end.
    pub stop: watch::Sender<bool>,
}

/// No new work, containers killed, output taken, events and replies written.
pub async fn stop(running: Running) {
    running.tasks.stop_all(CONTAINERS).await;
    running.relays.finish(OUTPUT).await;
    running.exchange.close();
    running.stop.send_replace(true);
    if !running.connections.finish(REPLIES).await {
        tracing::warn!("connections were dropped with calls in flight");
    }
}

/// Unmounts what containers may have left below `bundles`, and writes everything back. For PID 1, when all else has
/// ended. Blocks, within its bounds.
pub fn release_disks(bundles: PathBuf) {
    bounded("unmount", move || {
        for point in mount::mounts_below(&bundles).unwrap_or_default() {
            if let Err(error) = mount::unmount(&point) {
                tracing::warn!(path = %point.display(), %error, "cannot unmount");
            }
        }
    });
    bounded("sync", power::sync);
}

/// On a thread of its own: those for blocking work may all be stuck on the very disk that does not answer.
fn bounded(what: &'static str, step: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let thread = std::thread::Builder::new().name(what.to_owned()).spawn(move || {
        step();
        // Whoever waited may have given up.
        let _ = done.send(());
    });
    if thread.is_err() || ended.recv_timeout(DISKS).is_err() {
        tracing::error!("{what} did not end in time");
    }
}
