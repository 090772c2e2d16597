//! The place of one stream in the table: how long it is kept, and that it is given up.

use std::future;
use std::io;
use std::time::Duration;

use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::{sleep, timeout};

use super::StreamTable;
use crate::io::StreamId;
use crate::sys::socket::PeerWatch;

/// How long a stream is kept whose host has gone without a word. Behind libkrun a host that ends an empty stdin looks like
/// that (its half-close comes as a reset), and its request may still be on the way.
const GONE_KEPT: Duration = Duration::from_secs(5);

/// The place of a stream in the table. Dropping it closes the stream, unless it has left the table.
pub struct Place {
    pub(super) table: StreamTable,
    pub(super) id: StreamId,
    /// Resolves when the stream has left the table.
    pub(super) left: oneshot::Receiver<()>,
}

impl Place {
    /// Waits until the stream has left the table, and sees to it that it does: in time, or soon after its host has gone.
    pub(super) async fn keep(mut self, watch: io::Result<PeerWatch>) {
        let gone = async {
            match &watch {
                Ok(watch) => {
                    watch.gone().await;
                    sleep(GONE_KEPT).await;
                }
                // It expires all the same.
                Err(_) => future::pending().await,
            }
        };
        let id = self.id.clone();
        tokio::select! {
            _ = self.left_in_time() => {}
            () = gone => tracing::info!(stream = %id, "stream dropped: its host has gone"),
        }
    }

    /// Waits until the stream has left the table, or its time there is over. Says whether it left. Called once.
    pub async fn left_in_time(&mut self) -> bool {
        let left = timeout(self.table.settings.unclaimed, &mut self.left).await.is_ok();
        if !left {
            tracing::info!(stream = %self.id, "stream expired: no request named it");
        }
        left
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.table.table();
        // Once it has left, another stream may have its id.
        if self.left.try_recv() == Err(TryRecvError::Empty) {
            table.waiting.remove(&self.id);
        }
    }
}
