//! How far a container has come, as the runcs that are at work on it must know: what they do must not outlive what they
//! do it to. A late one would do it to the next container of that id.

use std::future::{pending, Future};
use std::time::Duration;

use tokio::sync::{watch, RwLock, RwLockReadGuard};

use super::RuncError;

/// How long a runc may go on once the init has ended: most of them then fail by themselves, and a checkpoint that ends
/// the container has its last steps to do.
const GRACE: Duration = Duration::from_secs(5);

/// What tears down. It goes on when the daemon stops or the init has ended, since that is when it is needed.
const TEARS_DOWN: [&str; 3] = ["resume", "kill", "delete"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Lives,
    InitEnded,
    Deleting,
    Deleted,
}

/// The life of one container, and who is at work on it.
pub(super) struct Life {
    phase: watch::Sender<Phase>,
    at_work: RwLock<()>,
}

/// Whether this verb is part of an end.
pub(super) fn tears_down(verb: &str) -> bool {
    TEARS_DOWN.contains(&verb)
}

impl Life {
    pub(super) fn new() -> Life {
        Life { phase: watch::Sender::new(Phase::Lives), at_work: RwLock::new(()) }
    }

    pub(super) fn init_ended(&self) {
        self.phase.send_modify(|phase| *phase = Phase::InitEnded.max(*phase));
    }

    /// Begins to work on the container, for as long as what this returns is held. A delete that is under way is waited
    /// for; after one that succeeded this is refused.
    pub(super) async fn work(&self, verb: &'static str) -> Result<RwLockReadGuard<'_, ()>, RuncError> {
        let at_work = self.at_work.read().await;
        match *self.phase.borrow() {
            Phase::Deleted => Err(RuncError::Ended { verb }),
            _ => Ok(at_work),
        }
    }

    /// Returns when this verb is of no use any more.
    pub(super) async fn is_over(&self, verb: &str) {
        let mut phase = self.phase.subscribe();
        // These cannot fail: the sender is here.
        if !tears_down(verb) {
            let _ = phase.wait_for(|phase| *phase >= Phase::InitEnded).await;
            let _ = tokio::time::timeout(GRACE, phase.wait_for(|phase| *phase >= Phase::Deleting)).await;
        } else if verb != "delete" {
            let _ = phase.wait_for(|phase| *phase >= Phase::Deleting).await;
        } else {
            pending::<()>().await;
        }
    }

    /// Does the deleting, alone: whoever is at work on the container is stopped first.
    pub(super) async fn delete(
        &self,
        delete: impl Future<Output = Result<(), RuncError>>,
    ) -> Result<(), RuncError> {
        let before = self.phase.send_replace(Phase::Deleting);
        let _alone = self.at_work.write().await;
        let deleted = delete.await;
        self.phase.send_replace(if deleted.is_ok() { Phase::Deleted } else { before });
        deleted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_ends_soon_after_the_init_and_what_tears_down_goes_on() {
        let life = Life::new();
        life.init_ended();
        life.is_over("pause").await;
        let goes_on = tokio::time::timeout(Duration::from_secs(3600), life.is_over("kill")).await;
        goes_on.expect_err("it has its own deadline only");
    }

    #[tokio::test(start_paused = true)]
    async fn a_delete_waits_for_those_at_work_and_they_are_told() {
        let life = Life::new();
        let working = life.work("resume").await.expect("it lives");
        let delete = async {
            life.delete(async { Ok(()) }).await.expect("deleted");
        };
        let work = async {
            life.is_over("resume").await;
            drop(working);
        };
        tokio::join!(delete, work);
        let refused = life.work("resume").await.expect_err("it is gone");
        assert!(matches!(refused, RuncError::Ended { verb: "resume" }), "{refused}");
    }

    #[tokio::test]
    async fn after_a_delete_that_failed_it_lives_on() {
        let life = Life::new();
        let failed = async { Err(RuncError::Stopping { verb: "delete" }) };
        life.delete(failed).await.expect_err("refused");
        assert!(life.work("pause").await.is_ok());
    }
}
