//! The connection that a call came over, for handlers whose effect is to last no longer than it does. It knows nothing
//! of what the call asks for.

use std::future::Future;

use crate::flag::raised;
use tokio::sync::watch;

tokio::task_local! {
    static CALLER: Caller;
}

/// The client of a call; a handle.
#[derive(Debug, Clone)]
pub struct Caller {
    gone: watch::Receiver<bool>,
}

impl Caller {
    /// One whose connection has ended once `gone` is raised.
    pub fn new(gone: watch::Receiver<bool>) -> Caller {
        Caller { gone }
    }

    /// The client of the call whose handler runs this. Only handlers may ask, and only in their own task.
    pub fn current() -> Caller {
        CALLER.with(Caller::clone)
    }

    /// Waits until the connection has ended, at once if it has already. Cancel safe.
    pub async fn gone(mut self) {
        raised(&mut self.gone).await;
    }

    /// Runs a handler for which this is the current client.
    pub async fn scope<T>(self, handler: impl Future<Output = T>) -> T {
        CALLER.scope(self, handler).await
    }
}
