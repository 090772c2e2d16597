//! The calls in flight on one connection: how many there may be, how each one ends, and that each is answered once.
//!
//! It never reads frames and never looks into a request.

use std::collections::HashMap;
use std::future::{self, Future};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::task::Poll;

use tokio::task::{self, AbortHandle, JoinError, JoinSet};
use tokio::time::{sleep_until, Instant};
use ttrpc::get_status;
use ttrpc::proto::{Code, Response, Status};

use super::frame;
use super::outbox::Outbox;

/// Calls that wait for something, at a time and connection: one Wait for each process of a busy VM.
const MAX_PARKED: usize = 1024;
/// Streaming calls, at a time and connection: three for each process of one that has its stdio there.
const MAX_STREAMS: usize = 1024;

/// How a call may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// It changes something on its way: once begun it is finished, whatever happens to its client or its deadline.
    Working,
    /// It looks or waits, and what it changes is done before it waits: it is dropped when its client goes or its
    /// deadline passes.
    Parked,
    /// The same for a streaming call. It is counted apart: a client may leave streams lying about, and must be able to
    /// wait and look all the same.
    Streaming,
}

/// What a finished call leaves to be sent.
pub enum Outcome {
    Response(Response),
    /// A stream that ended well.
    Closed,
}

/// A call at work: boxed, as the runtime has some kilobytes of code for each kind of task that is spawned.
pub type Work = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// The one answer of a call. Whoever answers first wins; the rest is dropped.
#[derive(Clone)]
pub struct Reply {
    stream_id: u32,
    outbox: Arc<Outbox>,
    answered: Arc<AtomicBool>,
}

/// The table of calls in flight. Dropping it drops the calls with it.
pub struct Calls {
    /// Calls that do something, at a time.
    max_working: usize,
    tasks: JoinSet<()>,
    live: HashMap<task::Id, Call>,
}

struct Call {
    reply: Reply,
    lane: Lane,
    abort: AbortHandle,
}

impl Calls {
    pub fn new(max_working: usize) -> Self {
        Self { max_working, tasks: JoinSet::new(), live: HashMap::new() }
    }

    /// Whether another call fits into `lane`.
    pub fn has_room(&self, lane: Lane) -> bool {
        let bound = match lane {
            Lane::Working => self.max_working,
            Lane::Parked => MAX_PARKED,
            Lane::Streaming => MAX_STREAMS,
        };
        self.live.values().filter(|call| call.lane == lane).count() < bound
    }

    /// Whether nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Starts a call as a task of its own.
    pub fn begin(&mut self, lane: Lane, deadline: Option<Instant>, reply: Reply, work: Work) {
        let abort = self.tasks.spawn(run(lane, deadline, reply.clone(), work));
        self.live.insert(abort.id(), Call { reply, lane, abort });
    }

    /// Waits for a call to end and gives its stream id; for ever if there is none. Cancel safe.
    pub async fn ended(&mut self) -> u32 {
        match self.tasks.join_next_with_id().await {
            Some(end) => self.settle(end),
            None => future::pending().await,
        }
    }

    /// The stream id of a call that has already ended, if there is one.
    pub fn try_ended(&mut self) -> Option<u32> {
        let end = self.tasks.try_join_next_with_id()?;
        Some(self.settle(end))
    }

    /// Stops the call on a stream, after answering it with `status`.
    pub fn abort(&self, stream_id: u32, status: Status) {
        if let Some(call) = self.live.values().find(|call| call.reply.stream_id == stream_id) {
            call.reply.refuse(status);
            call.abort.abort();
        }
    }

    /// Stops all calls that only wait: their client has gone.
    pub fn abandon_parked(&self) {
        self.live.values().filter(|call| call.lane != Lane::Working).for_each(|call| call.abort.abort());
    }

    /// Waits until every call has ended.
    pub async fn finish(&mut self) {
        while let Some(end) = self.tasks.join_next_with_id().await {
            self.settle(end);
        }
    }

    fn settle(&mut self, end: Result<(task::Id, ()), JoinError>) -> u32 {
        let id = end.as_ref().map_or_else(JoinError::id, |(id, ())| *id);
        let call = self.live.remove(&id).expect("every task of the set is entered when it is spawned");
        match end {
            Err(error) if error.is_panic() => call.reply.panicked(),
            // Ended, or stopped by us.
            _ => {}
        }
        call.reply.stream_id
    }
}

impl Reply {
    /// The answer that is owed on `stream_id`.
    pub fn new(stream_id: u32, outbox: Arc<Outbox>) -> Self {
        Self { stream_id, outbox, answered: Arc::default() }
    }

    /// The stream the answer goes to.
    pub fn stream_id(&self) -> u32 {
        self.stream_id
    }

    /// Whether the caller has been answered already.
    pub fn is_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// Answers with an error.
    pub fn refuse(&self, status: Status) {
        self.send(|id| frame::status(id, status));
    }

    /// Answers with what the work comes to, if it need not wait: most calls only look, and a task of their own would cost
    /// more than they do. Gives it back otherwise.
    pub async fn at_once(&self, mut work: Work) -> Option<Work> {
        let polled = future::poll_fn(|cx| {
            // What a panic leaves half done is the handler's own, as in a task.
            Poll::Ready(catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))))
        });
        match polled.await {
            Ok(Poll::Pending) => return Some(work),
            Ok(Poll::Ready(outcome)) => self.end(outcome),
            Err(_) => self.panicked(),
        }
        None
    }

    /// What was said is in the log already, by the panic's hook.
    fn panicked(&self) {
        tracing::error!(stream_id = self.stream_id, "a handler panicked");
        self.refuse(get_status(Code::INTERNAL, "handler panicked"));
    }

    fn end(&self, outcome: Outcome) {
        self.send(|id| match outcome {
            Outcome::Response(response) => frame::response(id, &response),
            Outcome::Closed => frame::close(id),
        });
    }

    fn send(&self, frame: impl FnOnce(u32) -> Vec<u8>) {
        if !self.answered.swap(true, Ordering::Relaxed) {
            self.outbox.push(frame(self.stream_id));
        }
    }
}

/// Runs a call and answers it: with its outcome, or at its deadline with `DEADLINE_EXCEEDED`.
async fn run(lane: Lane, deadline: Option<Instant>, reply: Reply, mut work: Work) {
    tokio::select! {
        biased;
        outcome = &mut work => reply.end(outcome),
        () = passed(deadline) => {
            reply.refuse(get_status(Code::DEADLINE_EXCEEDED, "deadline exceeded"));
            if lane == Lane::Working {
                // Only the caller stopped waiting. What was begun must not be left half done.
                work.await;
            }
        }
    }
}

async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => future::pending().await,
    }
}
