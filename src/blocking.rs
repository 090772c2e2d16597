//! Work that would hold up the thread of the runtime, on threads for it; and the bound that keeps a disk that has
//! stopped answering from taking all of them. It knows nothing of the work.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

/// How much may wait for disks at once: one thread each. A healthy disk is done with its share in milliseconds, so
/// these many are in use only when one stalls, and leave the others on a machine of this size enough to go on with.
const DISK_TURNS: usize = 16;

/// Looks at block devices at a time, and so the threads that devices which do not answer can take for good.
pub const LOOKS: usize = 2;

/// What may wait long without waiting for a disk, one thread each: the network for a link, the clock for a tick of the
/// RTC, PrepareShutdown for its steps, a processor and memory that are switched.
const LONG: usize = 5;

/// For what only reads the kernel's memory. That ends by itself, so a few serve all.
const SHORT: usize = 4;

/// Threads for all of it. They cost memory only while they are in use.
pub const THREADS: usize = DISK_TURNS + LOOKS + LONG + SHORT;

/// How long work for a disk waits for its turn. Half of what the ordered stop gives its containers, so that a stop
/// still tells of each container that it could not remove.
const TURN_WAIT: Duration = Duration::from_secs(10);

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum BlockingError {
    #[error("{0} was not begun: {DISK_TURNS} others are waiting for their disks")]
    Busy(&'static str),
    /// The runtime is going down, or the work panicked.
    #[error("{0} was interrupted")]
    Interrupted(&'static str),
}

/// Does what no disk can hold up: reading the kernel's own files.
pub async fn run<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BlockingError> {
    begun(what, boxed(work)).await.map(unboxed)
}

/// What work gives, of any type.
type Given = Box<dyn Any + Send>;

/// Boxed with what it gives, as the runtime has some kilobytes of code for each kind of work.
type Work = Box<dyn FnOnce() -> Given + Send>;

fn boxed<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Work {
    Box::new(|| Box::new(work()))
}

fn unboxed<T: 'static>(given: Given) -> T {
    *given.downcast().expect("the work gives what its caller waits for")
}

async fn begun(what: &'static str, work: Work) -> Result<Given, BlockingError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| BlockingError::Interrupted(what))
}

/// The turns of what may wait for a disk; a handle.
#[derive(Clone)]
pub struct Disks(Arc<Semaphore>);

impl Disks {
    pub fn new() -> Disks {
        Disks(Arc::new(Semaphore::new(DISK_TURNS)))
    }

    /// Does what may wait for a disk: mounting, unmounting, opening and writing files. It gets its turn within
    /// [`TURN_WAIT`], or is not begun. Once begun it goes on even if the future is dropped, for as long as the disk
    /// takes: nobody can tell how much of it would be left.
    pub async fn run<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BlockingError> {
        self.begun(what, boxed(work)).await.map(unboxed)
    }

    async fn begun(&self, what: &'static str, work: Work) -> Result<Given, BlockingError> {
        let turn = tokio::time::timeout(TURN_WAIT, self.0.clone().acquire_owned()).await;
        let turn = turn.map_err(|_| BlockingError::Busy(what))?.expect("this semaphore is never closed");
        let work = Box::new(move || {
            let given = work();
            drop(turn);
            given
        });
        begun(what, work).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// What a disk that has stopped answering makes of `turns` pieces of work. Dropping it lets them end.
    fn stall(disks: &Disks, turns: usize) -> Vec<mpsc::Sender<()>> {
        let stalled = |_| {
            let (answers, disk) = mpsc::channel::<()>();
            let disks = disks.clone();
            tokio::spawn(async move { disks.run("stalling", move || disk.recv()).await });
            answers
        };
        (0..turns).map(stalled).collect()
    }

    async fn all_have_their_turn(disks: &Disks, left: usize) {
        while disks.0.available_permits() != left {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_disk_leaves_turns_to_others_and_the_reserve_to_the_rest() {
        let disks = Disks::new();
        let mut stalled = stall(&disks, DISK_TURNS - 1);
        all_have_their_turn(&disks, 1).await;
        assert_eq!(disks.run("the last", || 1).await.expect("a turn"), 1);
        stalled.extend(stall(&disks, 1));
        all_have_their_turn(&disks, 0).await;
        // By hand: a clock that is paused stands still while a thread works.
        let (refused, ()) = tokio::join!(disks.run("one more", || 1), tokio::time::advance(TURN_WAIT));
        assert!(matches!(refused, Err(BlockingError::Busy("one more"))), "{refused:?}");
        assert_eq!(run("in memory", || 1).await.expect("a thread"), 1);
        drop(stalled);
        assert_eq!(disks.run("afterwards", || 1).await.expect("a turn"), 1);
    }

    #[tokio::test]
    async fn a_panic_gives_its_turn_back() {
        let disks = Disks::new();
        let interrupted = disks.run("panicking", || panic!("on purpose")).await;
        assert!(matches!(interrupted, Err(BlockingError::Interrupted("panicking"))));
        all_have_their_turn(&disks, DISK_TURNS).await;
    }

    #[tokio::test]
    async fn work_that_was_begun_keeps_its_turn_when_nobody_waits_for_it() {
        let disks = Disks::new();
        let (begun, beginning) = tokio::sync::oneshot::channel();
        let (answer, disk) = mpsc::channel::<()>();
        let work = move || {
            begun.send(()).expect("the test waits");
            disk.recv()
        };
        tokio::select! {
            _ = disks.run("stalling", work) => unreachable!("the disk does not answer"),
            begun = beginning => begun.expect("it was begun"),
        }
        assert_eq!(disks.0.available_permits(), DISK_TURNS - 1);
        drop(answer);
        all_have_their_turn(&disks, DISK_TURNS).await;
    }
}
