//! The word from whoever holds the relays of a process to each of them: its process was deleted, or it is on its own
//! from now on. Neither is decided here.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

/// What the holder of a relay keeps. Dropping it says that the process was deleted.
#[derive(Debug)]
pub struct Kept(oneshot::Sender<()>);

/// Resolves when the process is deleted. Cancel safe, and may be polled again.
#[derive(Debug)]
pub enum Deletion {
    Possible(oneshot::Receiver<()>),
    Came,
    /// The relay is on its own: nobody will say any more.
    Never,
}

/// Both ends for one relay.
pub fn deletion() -> (Kept, Deletion) {
    let (kept, deleted) = oneshot::channel();
    (Kept(kept), Deletion::Possible(deleted))
}

impl Kept {
    /// Leaves the relay on its own: it goes on to the end of the output.
    pub fn release(self) {
        // The relay may have ended.
        let _ = self.0.send(());
    }
}

impl Future for Deletion {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Deletion::Possible(deleted) = &mut *self {
            match Pin::new(deleted).poll(cx) {
                Poll::Ready(Err(_)) => *self = Deletion::Came,
                Poll::Ready(Ok(())) => *self = Deletion::Never,
                Poll::Pending => {}
            }
        }
        match *self {
            Deletion::Came => Poll::Ready(()),
            Deletion::Possible(_) | Deletion::Never => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_relay_that_was_released_never_hears_of_a_deletion() {
        let (kept, mut deletion) = deletion();
        kept.release();
        for _ in 0..2 {
            tokio::select! {
                biased;
                () = &mut deletion => panic!("nobody was deleted"),
                () = std::future::ready(()) => {}
            }
        }
    }

    #[tokio::test]
    async fn a_deletion_is_heard_as_often_as_it_is_asked_for() {
        let (kept, mut deletion) = deletion();
        drop(kept);
        (&mut deletion).await;
        deletion.await;
    }
}
