//! The handler's side of one stream: what it sends, what it receives, and how it learns that its client has gone.
//!
//! It never decodes a message and never decides when the stream is over.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::calls::Reply;
use super::frame::{self, Kind};
use super::outbox::Outbox;
use crate::flag::raised;

/// Messages of the client that may wait for a handler. Go's ttrpc has the same bound for its streams.
const MAX_WAITING: usize = 64;
/// How long a full queue may hold up the connection before the stream is given up: Go's ttrpc waits as long.
const GRACE: Duration = Duration::from_secs(1);

/// The client of a stream has gone, or was told that the stream is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("client gone")]
pub struct Gone;

/// One open stream.
pub struct Stream {
    sender: StreamSender,
    messages: mpsc::Receiver<Message>,
}

/// The sending side of a stream, for handlers that send and receive at once.
#[derive(Clone)]
pub struct StreamSender {
    reply: Reply,
    outbox: Arc<Outbox>,
    gone: watch::Receiver<bool>,
}

/// Where the connection puts the messages of a stream's client.
pub struct Inlet {
    messages: mpsc::Sender<Message>,
    unread: Arc<Semaphore>,
}

/// Why a message was not delivered.
#[derive(Debug, PartialEq, Eq)]
pub enum Undelivered {
    /// The handler takes no messages any more.
    Unwanted,
    /// The handler did not make room within [`GRACE`].
    Full,
}

struct Message {
    bytes: Vec<u8>,
    /// Its share of what the connection may hold unread; given back when the handler takes the message.
    _share: OwnedSemaphorePermit,
}

impl Stream {
    /// A stream and the inlet of its messages. `unread` is what all streams of the connection may hold, in bytes.
    pub(super) fn new(
        reply: Reply,
        outbox: Arc<Outbox>,
        gone: watch::Receiver<bool>,
        unread: Arc<Semaphore>,
    ) -> (Self, Inlet) {
        let (sender, messages) = mpsc::channel(MAX_WAITING);
        let stream = Self { sender: StreamSender { reply, outbox, gone }, messages };
        (stream, Inlet { messages: sender, unread })
    }

    /// Sends one message; see [`StreamSender::send`].
    pub async fn send(&self, message: Vec<u8>) -> Result<(), Gone> {
        self.sender.send(message).await
    }

    /// The next message of the client; `None` once it has closed its half or has gone. Cancel safe.
    pub async fn recv(&mut self) -> Option<Vec<u8>> {
        self.messages.recv().await.map(|message| message.bytes)
    }

    /// The sending side, for handlers that send while they wait for a message.
    pub fn sender(&self) -> StreamSender {
        self.sender.clone()
    }

    /// Waits until the client has gone; see [`StreamSender::gone`].
    pub async fn gone(&self) {
        self.sender.gone().await;
    }
}

impl StreamSender {
    /// Sends one message and returns once its bytes have been written to the socket, so a caller may forget it
    /// then. Messages keep the order of the calls. Waits as long as the client does not read.
    ///
    /// # Errors
    /// [`Gone`] when the client has gone or the stream is over. A message larger than a frame ends the stream with
    /// `RESOURCE_EXHAUSTED`.
    pub async fn send(&self, message: Vec<u8>) -> Result<(), Gone> {
        if message.len() > frame::MAX_PAYLOAD {
            self.reply.refuse(frame::too_large(message.len()));
        }
        if self.reply.is_answered() {
            return Err(Gone);
        }
        self.outbox.write(frame::encode(self.reply.stream_id(), Kind::Data, 0, &message)).await
    }

    /// Waits until the client has gone. A handler is dropped then; this is for what it started elsewhere.
    pub async fn gone(&self) {
        raised(&mut self.gone.clone()).await;
    }
}

impl Inlet {
    /// Hands a message to the handler, waiting at most [`GRACE`] for room.
    pub async fn deliver(&self, bytes: Vec<u8>) -> Result<(), Undelivered> {
        let delivery = async {
            let share = u32::try_from(bytes.len()).map_err(|_| Undelivered::Full)?;
            let share = self.unread.clone().acquire_many_owned(share);
            let _share = share.await.map_err(|_| Undelivered::Unwanted)?;
            self.messages.send(Message { bytes, _share }).await.map_err(|_| Undelivered::Unwanted)
        };
        timeout(GRACE, delivery).await.unwrap_or(Err(Undelivered::Full))
    }
}
