//! Tasks of the runtime that somebody watches: a panic in one is an error in the log, and a stop can wait for all.

use crate::lock::Lock;
use std::future::Future;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::{Arc, MutexGuard};
use std::task::Poll;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};

type Boxed = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A set of tasks; a handle.
#[derive(Clone, Default)]
pub struct Tracked(Arc<Lock<JoinSet<()>>>);

impl Tracked {
    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.0.lock()
    }

    /// Starts a task. After [`finish`](Self::finish) it runs until the runtime ends, and nobody waits for it.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.start(Box::pin(task))
    }

    /// Boxed, as the runtime has some kilobytes of code for each kind of task that is spawned.
    fn start(&self, task: Boxed) -> AbortHandle {
        let mut tasks = self.tasks();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(watched(task))
    }

    /// Waits until all have ended, but no longer than `limit`; those left are dropped. Says whether all had ended.
    pub async fn finish(&self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.ended()).await.is_ok()
    }

    /// Waits until all have ended, however long they take; those left are dropped with the future.
    pub async fn ended(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks());
        while tasks.join_next().await.is_some() {}
    }
}

/// Ends with an error in the log when the task panics.
async fn watched(mut task: Boxed) {
    std::future::poll_fn(|cx| {
        catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(cx))).unwrap_or_else(|_| {
            tracing::error!("a task panicked");
            Poll::Ready(())
        })
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_one_task_and_no_other() {
        let tracked = Tracked::default();
        tracked.spawn(async { panic!("on purpose") });
        let (tx, rx) = tokio::sync::oneshot::channel();
        tracked.spawn(async { tx.send(()).expect("the test waits") });
        rx.await.expect("the other task ran");
        assert!(tracked.finish(Duration::from_secs(5)).await);
    }
}
