//! The exchange: publishers on one side, subscribers on the other, the replay between them.

use crate::lock::Lock;
use std::sync::{Arc, MutexGuard};

use tokio::sync::watch;
use vminitd_api::containerd::shim::event::Envelope;

use super::envelope;
use super::replay::{Next, Replay, SubscriberId};
use super::Event;

/// Where events are published; a handle.
#[derive(Clone)]
pub struct Exchange(Arc<Shared>);

struct Shared {
    replay: Lock<Replay>,
    /// Says that something was published; true once nothing more will be.
    news: watch::Sender<bool>,
}

impl Shared {
    fn replay(&self) -> MutexGuard<'_, Replay> {
        self.replay.lock()
    }
}

impl Exchange {
    /// Keeps `capacity` events at most for a subscriber that is not there.
    pub fn new(capacity: usize) -> Exchange {
        Exchange(Arc::new(Shared {
            replay: Lock::new(Replay::new(capacity)),
            news: watch::Sender::new(false),
        }))
    }

    /// Queues an event for all subscribers. Never blocks; the order of calls is the order of delivery.
    pub fn publish(&self, event: Event) {
        let dropped = self.0.replay().push(event);
        if let Some(dropped) = dropped {
            tracing::error!(container = dropped.container, what = ?dropped.what, "event dropped: the replay is full");
        }
        self.0.news.send_modify(|_| {});
    }

    /// Nothing more will be published: subscribers end once they have got everything.
    pub fn close(&self) {
        self.0.news.send_replace(true);
    }

    /// Begins with the events that no subscriber was sent yet.
    pub fn subscribe(&self) -> Subscription {
        let news = self.0.news.subscribe();
        let id = self.0.replay().subscribe();
        Subscription { exchange: self.0.clone(), news, id }
    }
}

/// An event on its way to one subscriber.
pub struct Delivery {
    event: Arc<Event>,
}

impl Delivery {
    /// As it goes over the wire.
    pub fn envelope(&self) -> Envelope {
        envelope::encode(&self.event)
    }
}

/// A subscriber that did not read. What it was not sent goes to the next one.
#[derive(Debug, thiserror::Error)]
#[error("the subscriber is too far behind")]
pub struct CutOff;

/// One subscriber; dropping it leaves what it was not sent to the next.
pub struct Subscription {
    exchange: Arc<Shared>,
    news: watch::Receiver<bool>,
    id: SubscriberId,
}

impl Subscription {
    /// Waits for the next event; `None` once the exchange is closed and there is none left. Asked again without
    /// [`written`](Self::written) it yields the same event. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Delivery>, CutOff> {
        loop {
            let closed = *self.news.borrow_and_update();
            let next = self.exchange.replay().next(self.id);
            match next {
                Next::Event(event) => return Ok(Some(Delivery { event })),
                Next::CutOff => return Err(CutOff),
                Next::Nothing if closed => return Ok(None),
                // It cannot fail: the sender lives in the exchange that this subscription holds.
                Next::Nothing => drop(self.news.changed().await),
            }
        }
    }

    /// The event has been written to this subscriber's connection: it need not be sent again.
    pub fn written(&self, delivery: &Delivery) {
        self.exchange.replay().written(self.id, &delivery.event);
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.exchange.replay().unsubscribe(self.id);
    }
}
