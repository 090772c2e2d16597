//! The bounded log behind the exchange, pure: no lock, no clock, no IO.
//!
//! An event stays until it has been written to some connection and no live subscriber still has to get it. A new
//! subscriber begins with the first event that was written to none.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Event;

/// A subscriber that is behind by more than this does not read, and is cut off: what it did not get is kept for the
/// next one. A
/// quarter of the capacity that is the default, and far more than a reader that is merely slow falls behind.
pub const LAG_MAX: usize = 1_024;

type Seq = u64;

/// Names a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscriberId(u64);

/// What a subscriber is to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Send this, then say that it was [`Replay::written`].
    Event(Arc<Event>),
    /// There is nothing new.
    Nothing,
    /// It has been cut off.
    CutOff,
}

struct Logged {
    seq: Seq,
    event: Arc<Event>,
}

struct Subscriber {
    id: SubscriberId,
    /// The first event that it has not been written.
    cursor: Seq,
    /// Where the log ended when it came: what piled up before that does not make it slow.
    joined: Seq,
}

impl Subscriber {
    fn lag(&self, newest: Seq) -> Seq {
        newest - self.cursor.max(self.joined)
    }
}

pub struct Replay {
    /// Events kept at most; an event is a few hundred bytes.
    capacity: usize,
    log: VecDeque<Logged>,
    next_seq: Seq,
    /// Everything before this was written to some connection.
    delivered: Seq,
    next_subscriber: u64,
    subscribers: Vec<Subscriber>,
}

impl Replay {
    pub fn new(capacity: usize) -> Replay {
        Replay {
            capacity,
            log: VecDeque::new(),
            next_seq: 0,
            delivered: 0,
            next_subscriber: 0,
            subscribers: Vec::new(),
        }
    }

    /// Appends an event. Returns one that had to be dropped, undelivered, because the log is full of such.
    pub fn push(&mut self, event: Event) -> Option<Arc<Event>> {
        self.log.push_back(Logged { seq: self.next_seq, event: Arc::new(event) });
        self.next_seq += 1;
        let newest = self.next_seq;
        self.subscribers.retain(|subscriber| subscriber.lag(newest) <= LAG_MAX as Seq);
        self.forget_delivered();
        (self.log.len() > self.capacity).then(|| self.drop_one()).flatten()
    }

    /// The oldest that is no exit; the oldest of all if there are only exits.
    fn drop_one(&mut self) -> Option<Arc<Event>> {
        let victim = self.log.iter().position(|logged| !logged.event.is_exit()).unwrap_or(0);
        self.log.remove(victim).map(|logged| logged.event)
    }

    /// Adds a subscriber; it begins with the first event that was written to no connection.
    pub fn subscribe(&mut self) -> SubscriberId {
        let id = SubscriberId(self.next_subscriber);
        self.next_subscriber += 1;
        self.subscribers.push(Subscriber { id, cursor: self.delivered, joined: self.next_seq });
        id
    }

    pub fn unsubscribe(&mut self, id: SubscriberId) {
        self.subscribers.retain(|subscriber| subscriber.id != id);
        self.forget_delivered();
    }

    pub fn next(&self, id: SubscriberId) -> Next {
        let Some(subscriber) = self.subscribers.iter().find(|s| s.id == id) else { return Next::CutOff };
        let place = self.log.partition_point(|logged| logged.seq < subscriber.cursor);
        self.log.get(place).map_or(Next::Nothing, |logged| Next::Event(logged.event.clone()))
    }

    /// The event that [`next`](Self::next) named has been written to this subscriber's connection.
    pub fn written(&mut self, id: SubscriberId, event: &Arc<Event>) {
        let Some(logged) = self.log.iter().find(|logged| Arc::ptr_eq(&logged.event, event)) else { return };
        let after = logged.seq + 1;
        self.delivered = self.delivered.max(after);
        if let Some(subscriber) = self.subscribers.iter_mut().find(|s| s.id == id) {
            subscriber.cursor = after;
        }
        self.forget_delivered();
    }

    fn forget_delivered(&mut self) {
        let wanted = self.subscribers.iter().map(|s| s.cursor).fold(self.delivered, Seq::min);
        while self.log.front().is_some_and(|logged| logged.seq < wanted) {
            self.log.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
