//! The only code that starts children or waits for them.
//!
//! PID 1 has to collect strangers, so a second waiter would lose exits to it. One thread peeks at the next child that
//! has ended, takes the lock of the ledger, reaps that child and tells whoever waits for it. A fork and the
//! registration of its pid happen under the same lock, so an exit cannot precede its registration. No policy.

mod ledger;

use crate::lock::Lock;
use crate::sys::signal::Signal;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Arc, Condvar, MutexGuard};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use tokio::sync::oneshot;

use crate::sys::process::{ExecReport, Program};
use crate::sys::wait;
pub use crate::sys::wait::{Exit, Pid};
use ledger::{Claim, Ledger, WindowId};

/// How long the reaper sleeps when there is no child at all. A fork of ours wakes it; only an orphan that comes from
/// elsewhere waits that long (the kernel can hand one to PID 1 that no child of ours begot).
const NO_CHILD_PAUSE: Duration = Duration::from_millis(500);

/// The reaper reads and dispatches; it needs no more stack than that.
const STACK_BYTES: usize = 64 * 1024;

/// An exit that has been collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reaped {
    pub exit: Exit,
    pub at: SystemTime,
}

/// Why an exit will never come: the reaper has died. It has said so, and the daemon is on its way down.
#[derive(Debug, thiserror::Error)]
#[error("the reaper is gone")]
pub struct ReaperGone;

/// Where one exit is delivered.
#[derive(Debug)]
pub struct ExitOf(oneshot::Receiver<Reaped>);

impl ExitOf {
    /// Waits for it. To be awaited to its end once.
    pub async fn wait(&mut self) -> Result<Reaped, ReaperGone> {
        (&mut self.0).await.map_err(|_| ReaperGone)
    }
}

/// A process that is running, or has ended and whose exit is on its way.
#[derive(Debug)]
pub struct Process {
    pub pid: Pid,
    /// Names the process even after its number went to another. `None` if it had been reaped already.
    pidfd: Option<OwnedFd>,
}

#[cfg(test)]
impl Process {
    /// One that is told of, and not there.
    pub fn without_pidfd(pid: Pid) -> Process {
        Process { pid, pidfd: None }
    }
}

impl Process {
    /// Whether it has not been reaped yet.
    pub fn is_there(&self) -> bool {
        self.pidfd.as_ref().is_some_and(|pidfd| wait::pidfd_is_there(pidfd.as_fd()))
    }

    /// Sends a signal; `ESRCH` if the process has been reaped. Does not block.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match &self.pidfd {
            Some(pidfd) => wait::pidfd_signal(pidfd.as_fd(), signal),
            None => Err(Errno::ESRCH.into()),
        }
    }
}

/// A child that we started ourselves.
#[derive(Debug)]
pub struct Child {
    pub process: Process,
    pub exit: ExitOf,
    /// Why its exec failed, if it did; to be asked after its exit.
    pub exec: ExecReport,
}

/// Why a pid could not be claimed.
#[derive(Debug, thiserror::Error)]
#[error("process {pid} is not a child of ours")]
pub struct NotOurs {
    pid: Pid,
}

/// Whoever waits for one exit.
struct Waiter {
    exit: oneshot::Sender<Reaped>,
    /// What the process leaves of its group is killed at its end.
    owns_group: bool,
}

struct Shared {
    ledger: Lock<Ledger<Waiter>>,
    forked: Condvar,
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger<Waiter>> {
        self.ledger.lock()
    }
}

/// A handle of the one reaper of this process.
#[derive(Clone)]
pub struct Reaper(Arc<Shared>);

impl Reaper {
    /// Starts the thread. The receiver yields the reason should it ever end, which is fatal for PID 1.
    pub fn start() -> io::Result<(Reaper, oneshot::Receiver<String>)> {
        let shared = Arc::new(Shared { ledger: Lock::new(Ledger::new()), forked: Condvar::new() });
        let (fatal_tx, fatal) = oneshot::channel();
        let reaper = Reaper(shared.clone());
        std::thread::Builder::new().name("reaper".into()).stack_size(STACK_BYTES).spawn(move || {
            let reason = match catch_unwind(AssertUnwindSafe(|| reap_forever(&shared))) {
                Ok(error) => format!("reaper: wait for children: {error}"),
                Err(_) => "reaper: panicked".to_owned(),
            };
            tracing::error!("{reason}");
            shared.ledger().abandon();
            // Nobody listens any more when the daemon is on its way down already.
            let _ = fatal_tx.send(reason);
        })?;
        Ok((reaper, fatal))
    }

    /// One that waits for nobody, for tests in which nothing is started.
    #[cfg(test)]
    pub fn without_thread() -> Reaper {
        Reaper(Arc::new(Shared { ledger: Lock::new(Ledger::new()), forked: Condvar::new() }))
    }

    /// Starts a program. Returns when it has been forked, not when it has been loaded.
    pub fn spawn(&self, program: &Program) -> io::Result<Child> {
        self.spawn_one(program, false)
    }

    /// Like [`spawn`](Self::spawn), for a program whose children go with it: when it ends, its process group is killed.
    pub fn spawn_with_group(&self, program: &Program) -> io::Result<Child> {
        self.spawn_one(program, true)
    }

    fn spawn_one(&self, program: &Program, owns_group: bool) -> io::Result<Child> {
        let mut ledger = self.0.ledger();
        let child = self.fork(&mut ledger, program, owns_group);
        drop(ledger);
        self.0.forked.notify_one();
        child
    }

    /// Like [`spawn`](Self::spawn), for a program that leaves behind a process whose pid is learnt later.
    pub fn spawn_with_window(&self, program: &Program) -> io::Result<(Child, Window)> {
        let mut ledger = self.0.ledger();
        let child = self.fork(&mut ledger, program, false)?;
        let id = ledger.open(child.process.pid);
        drop(ledger);
        self.0.forked.notify_one();
        Ok((child, Window { reaper: self.clone(), id }))
    }

    /// Kills a child of ours and all that it started, unless it has been reaped. Each child leads a session.
    pub fn kill_group(&self, child: &Child) {
        let ledger = self.0.ledger();
        if ledger.is_waiting(child.process.pid) {
            wait::kill_group(child.process.pid);
        }
    }

    fn fork(&self, ledger: &mut Ledger<Waiter>, program: &Program, owns_group: bool) -> io::Result<Child> {
        let (pid, exec) = program.fork()?;
        let (exit, rx) = oneshot::channel();
        ledger.register(pid, Waiter { exit, owns_group });
        // Under the lock: the child cannot be reaped, so its number is its own.
        let pidfd = wait::pidfd_open(pid)
            .inspect_err(|error| tracing::warn!(%pid, %error, "cannot open a pidfd"))
            .ok();
        Ok(Child { process: Process { pid, pidfd }, exit: ExitOf(rx), exec })
    }
}

/// Open from the fork of a runc until the process that it left behind is claimed. Dropping it closes it.
pub struct Window {
    reaper: Reaper,
    id: WindowId,
}

impl Window {
    /// Takes over the process that runc named in its pid file. To be called after runc itself was reaped.
    pub fn claim(self, pid: Pid) -> Result<(Process, ExitOf), NotOurs> {
        let (exit, rx) = oneshot::channel();
        let waiter = Waiter { exit, owns_group: false };
        let mut ledger = self.reaper.0.ledger();
        let pidfd = match ledger.claim(self.id, pid, waiter, wait::is_child) {
            Claim::Alive => match wait::pidfd_open(pid) {
                Ok(pidfd) => Some(pidfd),
                Err(error) => {
                    // Without a descriptor it could not be signalled later, when the number may be another's.
                    tracing::error!(%pid, %error, "killed: cannot open a pidfd");
                    wait::kill_group(pid);
                    return Err(NotOurs { pid });
                }
            },
            Claim::Dead(waiter, reaped) => {
                // The receiver is right here.
                let _ = waiter.exit.send(reaped);
                None
            }
            Claim::Unknown => return Err(NotOurs { pid }),
        };
        drop(ledger);
        Ok((Process { pid, pidfd }, ExitOf(rx)))
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.reaper.0.ledger().close(self.id);
    }
}

/// Ends only with an error that waiting again cannot mend.
fn reap_forever(shared: &Shared) -> io::Error {
    loop {
        match wait::peek_any() {
            Ok(pid) => reap(shared, pid),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.raw_os_error() == Some(Errno::ECHILD as i32) => {
                let guard = shared.ledger();
                // Asked again under the lock, under which alone we fork: no wake-up can be missed.
                if !wait::any_child() {
                    drop(shared.forked.wait_timeout(guard, NO_CHILD_PAUSE));
                }
            }
            Err(error) => return error,
        }
    }
}

fn reap(shared: &Shared, pid: Pid) {
    let mut ledger = shared.ledger();
    if ledger.waiter(pid).is_some_and(|waiter| waiter.owns_group) {
        // A zombie still: until it is reaped neither its number nor that of its group can become another's.
        wait::kill_group(pid);
    }
    match wait::reap(pid) {
        Ok(Some(exit)) => {
            let reaped = Reaped { exit, at: SystemTime::now() };
            let waiter = ledger.reaped(pid, reaped);
            drop(ledger);
            tracing::debug!(%pid, %exit, "reaped");
            if let Some(waiter) = waiter {
                // Whoever waited may have gone.
                let _ = waiter.exit.send(reaped);
            }
        }
        Ok(None) => {}
        Err(error) => tracing::error!(%pid, %error, "cannot reap a child that was peeked at"),
    }
}
