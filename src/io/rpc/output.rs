//! The fan-out behind an output: one bounded stretch of the newest bytes, and how far each subscriber has come in it.
//!
//! The subscriber that is furthest sets the pace; whoever falls out of the stretch is cut off. Without subscribers the
//! oldest bytes are dropped. What one was sent is never sent to the next, unless it subscribed before.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::unix::pipe::Receiver;
use tokio::sync::{watch, Notify};

use crate::flag::raised;
use crate::io::deletion::Deletion;
use crate::io::relay::{self, Block, BLOCK_BYTES};
use crate::lock::Lock;

/// The stretch: enough for the first words of a process whose host subscribes late, and for a reader that hiccups.
const KEPT_BYTES: usize = 1 << 20;

/// How far the process may run ahead of the furthest subscriber. The rest of the stretch is what another may lag behind
/// that one: with none of it, of two that are equally fast one would be cut off.
const AHEAD_BYTES: usize = KEPT_BYTES / 2;

/// How long the furthest subscriber may hold up a process. Patient with a host that pauses, not with one that hangs.
const STALL: Duration = Duration::from_secs(30);

/// A subscriber fell behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("subscriber is too far behind")]
pub struct CutOff;

/// An output; a handle.
#[derive(Clone)]
pub struct Output(Arc<Shared>);

#[derive(Default)]
struct Shared {
    stretch: Lock<Stretch>,
    changed: Notify,
}

/// The end at which bytes come in. Dropping it ends the output.
pub struct Feed(Output);

/// One subscriber. Dropping it gives back its place.
pub struct Subscription {
    output: Output,
    id: u64,
}

/// Offsets count the bytes of the output from its beginning.
#[derive(Default)]
struct Stretch {
    bytes: VecDeque<u8>,
    /// Offset of the first byte kept.
    start: u64,
    /// Up to here some subscriber has been sent it all.
    sent: u64,
    /// Each, and how far it has been sent it.
    subscribers: Vec<(u64, u64)>,
    last_id: u64,
    ended: bool,
}

/// What there is for a subscriber.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Bytes(Vec<u8>),
    Nothing,
    End,
}

/// An output that nothing has come from yet.
pub fn output() -> (Output, Feed) {
    let output = Output(Arc::default());
    (output.clone(), Feed(output))
}

/// Reads the pipe to its end and says so on `done`. The output ends there, or with the process.
pub async fn fan_out(
    mut pipe: Receiver,
    feed: Feed,
    done: watch::Sender<bool>,
    deletion: Deletion,
    mut stopping: watch::Receiver<bool>,
) {
    tokio::select! {
        () = copy(&mut pipe, &feed) => {}
        () = deletion => {}
    }
    drop(feed);
    // Whoever still holds the pipe must neither block nor be killed by SIGPIPE.
    tokio::select! {
        () = relay::discard(pipe) => {}
        () = raised(&mut stopping) => {}
    }
    done.send_replace(true);
}

/// An error of the pipe is its end.
async fn copy(pipe: &mut Receiver, feed: &Feed) {
    let mut block = Block::of(BLOCK_BYTES);
    loop {
        feed.room().await;
        match block.fill(pipe).await {
            Ok(0) | Err(_) => return,
            Ok(n) => feed.append(&block.bytes[..n]),
        }
    }
}

impl Output {
    /// Begins with the first byte that no subscriber has been sent.
    pub fn subscribe(&self) -> Subscription {
        let id = self.0.stretch.lock().subscribe();
        Subscription { output: self.clone(), id }
    }

    /// Changes the stretch and wakes all who wait for a change.
    fn change<T>(&self, change: impl FnOnce(&mut Stretch) -> T) -> T {
        let changed = change(&mut self.0.stretch.lock());
        self.0.changed.notify_waiters();
        changed
    }

    /// Waits until `look` finds something.
    async fn find<T>(&self, look: impl Fn(&Stretch) -> Option<T>) -> T {
        loop {
            // Created before looking: a change in between is not missed.
            let changed = self.0.changed.notified();
            if let Some(found) = look(&self.0.stretch.lock()) {
                return found;
            }
            changed.await;
        }
    }
}

impl Feed {
    /// Waits until the furthest subscriber leaves room for a block, and no longer than [`STALL`].
    async fn room(&self) {
        let room = self.0.find(|stretch| stretch.has_room().then_some(()));
        if tokio::time::timeout(STALL, room).await.is_err() {
            tracing::warn!("subscribers of an output take nothing: cut off");
            self.0.change(|stretch| stretch.subscribers.clear());
        }
    }

    fn append(&self, block: &[u8]) {
        let lost = self.0.change(|stretch| stretch.append(block));
        if lost {
            tracing::warn!("output that nobody has read is dropped");
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.0.change(|stretch| stretch.ended = true);
    }
}

impl Subscription {
    /// Waits for output: what there is of it, at most 64 KiB, or `None` at its end. The same again until
    /// [`sent`](Self::sent) says that it was. Cancel safe.
    ///
    /// # Errors
    /// [`CutOff`], and from then on always.
    pub async fn next(&self) -> Result<Option<Vec<u8>>, CutOff> {
        let next = self.output.find(|stretch| match stretch.next(self.id) {
            Ok(Next::Nothing) => None,
            found => Some(found),
        });
        match next.await? {
            Next::Bytes(bytes) => Ok(Some(bytes)),
            Next::Nothing | Next::End => Ok(None),
        }
    }

    /// Takes note that so many bytes have been sent.
    pub fn sent(&self, bytes: usize) {
        self.output.change(|stretch| stretch.advance(self.id, bytes));
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.output.change(|stretch| stretch.leave(self.id));
    }
}

impl Stretch {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    fn subscribe(&mut self) -> u64 {
        self.last_id += 1;
        self.subscribers.push((self.last_id, self.sent));
        self.last_id
    }

    fn leave(&mut self, id: u64) {
        self.subscribers.retain(|(other, _)| *other != id);
        self.forget_sent();
    }

    fn has_room(&self) -> bool {
        let furthest = self.subscribers.iter().map(|(_, at)| at).max();
        furthest.is_none_or(|furthest| self.end() - furthest + BLOCK_BYTES as u64 <= AHEAD_BYTES as u64)
    }

    /// Says whether bytes that nobody had been sent were dropped for the first time since somebody was sent some.
    fn append(&mut self, block: &[u8]) -> bool {
        self.bytes.extend(block);
        self.forget_sent();
        let excess = self.bytes.len().saturating_sub(KEPT_BYTES);
        self.drop_first(excess);
        let start = self.start;
        self.subscribers.retain(|(_, at)| *at >= start);
        let lost = self.sent < start;
        self.sent = self.sent.max(start);
        lost
    }

    fn next(&self, id: u64) -> Result<Next, CutOff> {
        let (_, at) = *self.subscribers.iter().find(|(other, _)| *other == id).ok_or(CutOff)?;
        let from = (at - self.start) as usize;
        if from < self.bytes.len() {
            let to = self.bytes.len().min(from + BLOCK_BYTES);
            return Ok(Next::Bytes(self.copy(from, to)));
        }
        Ok(if self.ended { Next::End } else { Next::Nothing })
    }

    fn copy(&self, from: usize, to: usize) -> Vec<u8> {
        let (front, back) = self.bytes.as_slices();
        let in_front = &front[from.min(front.len())..to.min(front.len())];
        let in_back = &back[from.saturating_sub(front.len())..to.saturating_sub(front.len())];
        [in_front, in_back].concat()
    }

    fn advance(&mut self, id: u64, bytes: usize) {
        if let Some((_, at)) = self.subscribers.iter_mut().find(|(other, _)| *other == id) {
            *at += bytes as u64;
            self.sent = self.sent.max(*at);
            self.forget_sent();
        }
    }

    /// Forgets what every subscriber, and some subscriber, has been sent.
    fn forget_sent(&mut self) {
        let needed = self.subscribers.iter().map(|(_, at)| *at).min().unwrap_or(self.sent);
        self.drop_first((needed - self.start) as usize);
        if self.bytes.is_empty() {
            // An idle output costs no memory.
            self.bytes = VecDeque::new();
        }
    }

    fn drop_first(&mut self, bytes: usize) {
        self.bytes.drain(..bytes);
        self.start += bytes as u64;
    }
}

#[cfg(test)]
mod tests;
