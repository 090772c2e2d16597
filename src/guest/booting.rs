//! The boot as others see it, since the guest serves while it goes on: what went wrong, how long its phases took,
//! whether it is over. Bounded. It boots nothing and logs nothing.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::lock::Lock;

/// Failures that are kept word for word. An image with this many has one cause for all of them, which is among the
/// first.
const KEPT: usize = 64;

/// Bytes of one: a path and the kernel's words for an error fit, and 64 of them are far below a frame.
const LONGEST: usize = 256;

/// The boot; a handle. A new one goes on.
#[derive(Clone)]
pub struct Booting(Arc<Shared>);

struct Shared {
    progress: Lock<Progress>,
    /// Closed at the end. Who waits for that goes on in the order in which they came, as calls of some services must; a
    /// `watch` would shuffle them.
    end: Semaphore,
}

impl Default for Booting {
    fn default() -> Booting {
        Booting(Arc::new(Shared { progress: Lock::new(Progress::default()), end: Semaphore::new(0) }))
    }
}

/// How far the boot is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    pub failures: Failures,
    /// How long each phase took that has ended, in order.
    pub times: Vec<(&'static str, Duration)>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    GoesOn,
    Over,
    GivenUp,
}

impl Booting {
    /// That of a process which boots no machine.
    pub fn none() -> Booting {
        let booting = Booting::default();
        booting.end();
        booting
    }

    /// Notes what went wrong in a step.
    pub fn failed(&self, step: &str, what: impl Display, error: &dyn Display) {
        self.0.progress.lock().failures.add(step, what, error);
    }

    /// Notes how long a phase took.
    pub fn took(&self, phase: &'static str, time: Duration) {
        self.0.progress.lock().times.push((phase, time));
    }

    /// Ends it, for whoever boots.
    pub fn end(&self) {
        self.leave(Stage::Over);
    }

    /// Ends it for the stop of the guest: nothing of it is begun any more.
    pub fn give_up(&self) {
        self.leave(Stage::GivenUp);
    }

    fn leave(&self, stage: Stage) {
        let mut progress = self.0.progress.lock();
        if progress.stage == Stage::GoesOn {
            progress.stage = stage;
            self.0.end.close();
        }
    }

    /// Whether it goes on.
    pub fn goes_on(&self) -> bool {
        self.stage() == Stage::GoesOn
    }

    /// Waits until it has ended, at once if it has already; whether it was not given up. Cancel safe.
    pub async fn over(&self) -> bool {
        // It has no permits, so that this ends with an error, when it is closed.
        let _ = self.0.end.acquire().await;
        self.stage() == Stage::Over
    }

    fn stage(&self) -> Stage {
        self.0.progress.lock().stage
    }

    /// What is known of it by now.
    pub fn so_far(&self) -> Progress {
        self.0.progress.lock().clone()
    }
}

/// The failures of the boot's steps, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failures {
    kept: Vec<String>,
    further: usize,
}

impl Failures {
    fn add(&mut self, step: &str, what: impl Display, error: &dyn Display) {
        if self.kept.len() == KEPT {
            self.further += 1;
            return;
        }
        let mut line = format!("{step} {what}: {error}");
        shorten(&mut line);
        self.kept.push(line);
    }

    /// One line for each, `step what: error`, and one for those that were too many.
    pub fn lines(&self) -> Vec<String> {
        let more = (self.further > 0).then(|| format!("and {} more", self.further));
        self.kept.iter().cloned().chain(more).collect()
    }
}

/// Cuts a line at the last character that ends within [`LONGEST`].
fn shorten(line: &mut String) {
    let end = (0..=LONGEST).rev().find(|at| line.is_char_boundary(*at));
    if line.len() > LONGEST {
        line.truncate(end.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures(count: usize, what: &str) -> Vec<String> {
        let booting = Booting::default();
        for _ in 0..count {
            booting.failed("step", what, &std::io::ErrorKind::NotFound);
        }
        booting.so_far().failures.lines()
    }

    #[test]
    fn a_failure_is_told_with_its_step_and_its_cause() {
        assert_eq!(failures(1, "/dev/fuse"), ["step /dev/fuse: entity not found"]);
        assert_eq!(failures(0, ""), Vec::<String>::new());
    }

    #[test]
    fn what_is_beyond_the_bounds_is_counted_and_cut() {
        let lines = failures(KEPT + 2, "x");
        assert_eq!((lines.len(), lines[KEPT].as_str()), (KEPT + 1, "and 2 more"));
        // Two bytes each, and the first of them at an odd place.
        let long = failures(1, &"é".repeat(LONGEST));
        assert_eq!(long[0].len(), LONGEST - 1);
    }

    #[tokio::test]
    async fn those_who_wait_go_on_in_the_order_in_which_they_came() {
        let booting = Booting::default();
        let order = Arc::new(Lock::new(Vec::new()));
        let mut waiting = tokio::task::JoinSet::new();
        for n in 0..16 {
            let (booting, order) = (booting.clone(), order.clone());
            waiting.spawn(async move {
                booting.over().await;
                order.lock().push(n);
            });
        }
        tokio::task::yield_now().await;
        booting.end();
        waiting.join_all().await;
        assert_eq!(*order.lock(), (0..16).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn its_end_is_waited_for_and_the_first_one_counts() {
        let booting = Booting::default();
        let other = booting.clone();
        assert!(other.goes_on());
        assert!(tokio::join!(other.over(), async { booting.end() }).0);
        booting.give_up();
        assert!(!other.goes_on() && other.over().await && Booting::none().over().await);

        let given_up = Booting::default();
        assert!(!tokio::join!(given_up.over(), async { given_up.give_up() }).0);
        given_up.end();
        assert!(!given_up.over().await);
    }
}
