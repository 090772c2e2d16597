//! Subscribers that come and go, and all that they were told, as one log. Knows nothing of what the events mean.

use std::time::SystemTime;

use tokio::time::Instant;
use vminit_shim::client::{Endpoint, Received};

use crate::{order, Subscriber};

/// One subscriber at a time, or none.
pub struct Audience {
    rpc: Endpoint,
    present: Option<Subscriber>,
    log: Vec<Received>,
    subscriptions: usize,
}

impl Audience {
    pub fn new(rpc: Endpoint) -> Audience {
        Audience { rpc, present: None, log: Vec::new(), subscriptions: 0 }
    }

    /// How often somebody subscribed.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions
    }

    /// Somebody comes, unless somebody is there.
    pub async fn come(&mut self) {
        if self.present.is_none() {
            self.present = Some(Subscriber::subscribe(&self.rpc).await);
            self.subscriptions += 1;
        }
    }

    /// Waits until the daemon knows of whoever is there.
    pub async fn is_heard(&self) {
        if let Some(subscriber) = &self.present {
            subscriber.is_heard().await;
        }
    }

    /// Waits until whoever is there has been told all that had happened by now; whether that was before the deadline.
    pub async fn is_told_all(&self, deadline: Instant) -> bool {
        match &self.present {
            Some(subscriber) => subscriber.told_since(SystemTime::now(), deadline).await,
            None => false,
        }
    }

    /// Whoever is there leaves.
    pub async fn leave(&mut self) {
        let Some(subscriber) = self.present.take() else { return };
        let mut seen = subscriber.hang_up().await;
        // The event that was being written as a subscriber left is the next one's too: there is no telling whether
        // it arrived. It is never more than one.
        if self.log.last().is_some_and(|last| seen.first() == Some(last)) {
            seen.remove(0);
        }
        self.log.append(&mut seen);
    }

    /// Waits until the delete of the container `curtain` is told, after which nothing happens any more; gives the whole
    /// log without that container.
    pub async fn close(mut self, curtain: &str) -> Vec<Received> {
        self.come().await;
        self.present.as_ref().expect("somebody came").until(curtain, "delete").await;
        self.leave().await;
        self.log.retain(|received| order::owner(&received.event) != Some(curtain));
        self.log
    }
}
