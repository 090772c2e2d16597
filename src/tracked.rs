//! Tasks of the runtime that somebody watches: a panic in one is an error in the log, and a stop can wait for all.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::{AbortHandle, JoinError, JoinSet};

/// A set of tasks; a handle.
#[derive(Clone, Default)]
pub struct Tracked(Arc<Mutex<JoinSet<()>>>);

impl Tracked {
    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        // A JoinSet is whole between any two calls.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a task.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let mut tasks = self.tasks();
        while let Some(ended) = tasks.try_join_next() {
            report(ended);
        }
        tasks.spawn(task)
    }

    /// Waits until all have ended, but no longer than `limit`; those left are dropped. Says whether all had ended.
    pub async fn finish(&self, limit: Duration) -> bool {
        let mut tasks = std::mem::take(&mut *self.tasks());
        let all = async {
            while let Some(ended) = tasks.join_next().await {
                report(ended);
            }
        };
        tokio::time::timeout(limit, all).await.is_ok()
    }
}

fn report(ended: Result<(), JoinError>) {
    match ended {
        Err(error) if error.is_panic() => tracing::error!(%error, "a task panicked"),
        _ => {}
    }
}
