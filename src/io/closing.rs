//! The request to end the stdin of a process: it may come before the process is started, and more than once.

use std::sync::Arc;

use tokio::sync::watch;

/// Asks for the end of one process's stdin, or waits for that; a handle. Without a stdin stream nobody listens to it.
#[derive(Debug, Clone, Default)]
pub struct StdinCloser(Arc<watch::Sender<bool>>);

impl StdinCloser {
    /// Asks for it. What was written before is delivered first. Does not block.
    pub fn close(&self) {
        self.0.send_replace(true);
    }

    /// Waits until it has been asked for. Cancel safe.
    pub async fn asked(&self) {
        // It cannot fail: the sender is right here.
        let _ = self.0.subscribe().wait_for(|asked| *asked).await;
    }
}
