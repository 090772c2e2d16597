//! What a connection still has to send: one ordered queue, and the writer that empties it.
//!
//! It never decides what is sent. It counts the bytes that wait, so that the reader can stop taking on more.

use crate::lock::Lock;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot, Notify};

use super::stream::Gone;

/// Answers may wait up to so many bytes before the connection stops reading requests: two frames of the largest size.
pub const MAX_UNSENT: usize = 8 << 20;
/// Queued frames are put together into writes of about so many bytes: beyond it, vsock gains nothing.
const COALESCE: usize = 64 << 10;
/// Frames taken from the queue at a time.
const BATCH: usize = 64;

/// The sending end: anyone who has something for the peer.
pub struct Outbox {
    /// `None` once closed.
    queue: Lock<Option<mpsc::UnboundedSender<Outgoing>>>,
    /// Bytes queued and not yet written.
    unsent: AtomicUsize,
    /// There is room again. The reader alone waits for it.
    freed: Notify,
}

/// The writer's end of the queue.
pub struct Queue {
    frames: mpsc::UnboundedReceiver<Outgoing>,
    outbox: Arc<Outbox>,
}

struct Outgoing {
    bytes: Vec<u8>,
    /// Told when the bytes are in the socket.
    written: Option<oneshot::Sender<()>>,
}

/// A new, empty outbox.
///
/// The queue has no length of its own. What enters is bounded where it comes from: one answer for each call in
/// flight and for each frame of a read, one message at a time for each stream, and nothing more read while [`MAX_UNSENT`]
/// is exceeded.
pub fn outbox() -> (Arc<Outbox>, Queue) {
    let (sender, frames) = mpsc::unbounded_channel();
    let queue = Lock::new(Some(sender));
    let outbox = Arc::new(Outbox { queue, unsent: AtomicUsize::new(0), freed: Notify::new() });
    (outbox.clone(), Queue { frames, outbox })
}

impl Outbox {
    /// Queues a frame. It is dropped if the peer has gone: there is nobody left to tell.
    pub fn push(&self, bytes: Vec<u8>) {
        self.enqueue(Outgoing { bytes, written: None });
    }

    /// Queues a frame and waits until it has been written to the socket. The frame keeps its place in the queue
    /// from the call on, and goes out even if the returned future is dropped.
    pub fn write(&self, bytes: Vec<u8>) -> impl Future<Output = Result<(), Gone>> + Send + 'static {
        let (written, done) = oneshot::channel();
        self.enqueue(Outgoing { bytes, written: Some(written) });
        async move { done.await.map_err(|_| Gone) }
    }

    /// Takes nothing more. The writer ends once it has written what is queued.
    pub fn close(&self) {
        self.queue.lock().take();
    }

    /// Waits until no more than [`MAX_UNSENT`] bytes wait. Cancelling it changes nothing.
    pub async fn room(&self) {
        while self.unsent.load(Ordering::Relaxed) > MAX_UNSENT {
            self.freed.notified().await;
        }
    }

    fn enqueue(&self, frame: Outgoing) {
        let queue = self.queue.lock();
        if let Some(queue) = queue.as_ref() {
            self.unsent.fetch_add(frame.bytes.len(), Ordering::Relaxed);
            // It fails when the writer has ended, and with it the connection.
            let _ = queue.send(frame);
        }
    }
}

impl Queue {
    /// Writes what is queued, in order, until the outbox is closed; then half-closes the socket and gives it back.
    ///
    /// # Errors
    /// The first failed write: the peer is gone. Every frame not yet written is dropped.
    pub async fn drain<S: AsyncWrite + Unpin>(mut self, mut socket: S) -> io::Result<S> {
        let (mut batch, mut told) = (Vec::with_capacity(BATCH), Vec::new());
        while self.frames.recv_many(&mut batch, BATCH).await > 0 {
            let mut frames = batch.drain(..).peekable();
            while let Some(mut head) = frames.next() {
                told.extend(head.written.take());
                while let Some(next) = frames.next_if(|next| head.bytes.len() + next.bytes.len() <= COALESCE)
                {
                    head.bytes.extend_from_slice(&next.bytes);
                    told.extend(next.written);
                }
                socket.write_all(&head.bytes).await?;
                let unsent = self.outbox.unsent.fetch_sub(head.bytes.len(), Ordering::Relaxed);
                if unsent > MAX_UNSENT {
                    self.outbox.freed.notify_one();
                }
                // A sender that no longer waits has been dropped; nothing is owed to it.
                for written in told.drain(..) {
                    let _ = written.send(());
                }
            }
        }
        socket.shutdown().await?;
        Ok(socket)
    }
}
