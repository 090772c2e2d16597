//! The request to end the stdin of a process: it may come before the process is started, and more than once.

use std::sync::Arc;

use crate::flag::raised;
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
        raised(&mut self.0.subscribe()).await;
    }
}
