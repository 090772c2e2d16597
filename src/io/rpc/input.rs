//! The queue in front of a stdin: writes in their order, then its end.
//!
//! A write that was queued is done whatever happens to its caller. Its caller waits for the pipe; the queue never does.

use std::future::Future;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe::Sender;
use tokio::sync::{mpsc, oneshot, OwnedSemaphorePermit, Semaphore};

use crate::lock::Lock;

/// Bytes that may wait for a process to read them: two writes of the largest frame, as the wire holds unread.
const WAITING_BYTES: usize = 8 << 20;

/// Writes that may wait: as many as messages of a stream.
const WAITING_WRITES: usize = 64;

/// Why a write to a stdin was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// It was closed, or nobody reads it any more.
    #[error("closed")]
    Closed,
    /// Nothing of this write was taken.
    #[error("full: {WAITING_WRITES} writes or {WAITING_BYTES} bytes wait already")]
    Full,
}

/// A stdin; a handle.
#[derive(Clone)]
pub struct Input {
    /// `None` once it was closed.
    queue: Arc<Lock<Option<mpsc::Sender<Write>>>>,
    room: Arc<Semaphore>,
}

/// The other end of the queue.
pub struct Queue(mpsc::Receiver<Write>);

struct Write {
    data: Vec<u8>,
    done: oneshot::Sender<()>,
    _room: OwnedSemaphorePermit,
}

/// A stdin and the queue in front of its pipe.
pub fn queue() -> (Input, Queue) {
    let (sender, receiver) = mpsc::channel(WAITING_WRITES);
    let room = Arc::new(Semaphore::new(WAITING_BYTES));
    (Input { queue: Arc::new(Lock::new(Some(sender))), room }, Queue(receiver))
}

impl Input {
    /// Queues a write at once, in the order of the calls. The future waits until the pipe has taken all of it.
    ///
    /// # Errors
    /// `Full` before anything is taken. `Closed`: how much was taken is unknown.
    pub fn write(&self, data: Vec<u8>) -> impl Future<Output = Result<(), InputError>> + Send + 'static {
        let queued = self.enqueue(data);
        async move { queued?.await.map_err(|_| InputError::Closed) }
    }

    fn enqueue(&self, data: Vec<u8>) -> Result<oneshot::Receiver<()>, InputError> {
        let queue = self.queue.lock();
        let queue = queue.as_ref().ok_or(InputError::Closed)?;
        let bytes = u32::try_from(data.len()).map_err(|_| InputError::Full)?;
        let room = self.room.clone().try_acquire_many_owned(bytes).map_err(|_| InputError::Full)?;
        let (done, written) = oneshot::channel();
        queue.try_send(Write { data, done, _room: room }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => InputError::Full,
            mpsc::error::TrySendError::Closed(_) => InputError::Closed,
        })?;
        Ok(written)
    }

    /// Ends it, behind what is queued. Once more changes nothing.
    pub fn close(&self) {
        self.queue.lock().take();
    }
}

/// Writes what is queued until the input is closed or nobody reads the pipe any more.
pub async fn feed(mut queue: Queue, mut pipe: Sender) {
    while let Some(write) = queue.0.recv().await {
        if pipe.write_all(&write.data).await.is_err() {
            return;
        }
        // An error means that the caller no longer waits.
        let _ = write.done.send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::unix::pipe::pipe;

    #[tokio::test]
    async fn writes_keep_their_order_and_the_end_comes_behind_them() {
        let (input, queue) = queue();
        let (sender, mut receiver) = pipe().expect("a pipe");
        let writes = [vec![1; 100_000], vec![], vec![2; 100_000], vec![3]].map(|data| input.write(data));
        input.close();
        input.close();
        assert_eq!(input.write(vec![4]).await, Err(InputError::Closed));
        let feeding = tokio::spawn(feed(queue, sender));
        let mut read = Vec::new();
        receiver.read_to_end(&mut read).await.expect("the pipe is read");
        assert_eq!(read, [vec![1; 100_000], vec![2; 100_000], vec![3]].concat());
        for write in writes {
            assert_eq!(write.await, Ok(()));
        }
        feeding.await.expect("feeding does not panic");
    }

    #[tokio::test]
    async fn what_waits_is_bounded() {
        let (input, _queue) = queue();
        let _big = input.write(vec![0; WAITING_BYTES]);
        assert_eq!(input.write(vec![0]).await, Err(InputError::Full));
        let empty: Vec<_> = (1..WAITING_WRITES).map(|_| input.write(vec![])).collect();
        assert_eq!(input.write(vec![]).await, Err(InputError::Full));
        drop(empty);
    }

    #[tokio::test]
    async fn a_write_fails_when_nobody_reads() {
        let (input, queue) = queue();
        let (sender, receiver) = pipe().expect("a pipe");
        let write = input.write(vec![0; 1 << 20]);
        let feeding = tokio::spawn(feed(queue, sender));
        drop(receiver);
        assert_eq!(write.await, Err(InputError::Closed));
        feeding.await.expect("feeding does not panic");
        assert_eq!(input.write(vec![0]).await, Err(InputError::Closed));
    }
}
