//! The way to the guest, once it is ready: one connection for calls, and the stream port. Owns how long a call may take and
//! that every call ends with the machine; never says what its end means.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::select;
use tokio::sync::watch;
use tokio::time::timeout;
use vminitd_api::ttrpc::{self, context::Context};

use super::TaskError;
use crate::client::{context, Client, ClientError, Streams};

/// A call that only reads or signals: the guest gives its runc 10 s for the slowest of them.
pub(super) const SHORT: Duration = Duration::from_secs(15);
/// A call for which the guest runs runc with a limit of 30 s, or waits 10 s for readers before it does.
pub(super) const LONG: Duration = Duration::from_secs(45);
/// Create and Start, of execs too: the guest's runc has 60 s, after its turn. Thirty at once have taken 58 s, emulated.
pub(super) const LONGEST: Duration = Duration::from_secs(120);

/// When a connection breaks, who watches the machine says within this why: it looks for QEMU's death first.
const TOLD: Duration = Duration::from_secs(5);

/// Why there is no machine any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fate {
    /// What its processes are said to have exited with.
    pub status: u32,
    pub reason: String,
}

/// Clones share everything.
#[derive(Clone)]
pub(super) struct Link {
    pub client: Client,
    streams: Streams,
    next_stream: Arc<AtomicU32>,
    namespace: String,
    fate: Arc<watch::Sender<Option<Fate>>>,
}

impl Link {
    pub fn new(client: Client, streams: Streams, namespace: &str) -> Link {
        let (next_stream, fate) = (Arc::new(AtomicU32::new(1)), Arc::new(watch::Sender::new(None)));
        Link { client, streams, next_stream, namespace: namespace.to_owned(), fate }
    }

    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    /// A number that no stream of this machine has had.
    pub fn next_stream(&self) -> u32 {
        self.next_stream.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes a call, named for errors, that may take `within`; the guest knows of that limit too.
    ///
    /// # Errors
    /// `Guest` with what it answered, `Late`, and `Lost` when there is no machine any more; `Client` for a request that
    /// is too large to be sent, and for an answer that is none.
    pub async fn call<T, F>(
        &self,
        name: &'static str,
        within: Duration,
        call: impl FnOnce(Context) -> F,
    ) -> Result<T, TaskError>
    where
        F: Future<Output = ttrpc::Result<T>>,
    {
        let begun = Instant::now();
        let answer = self.alive(call(context(within, &self.namespace))).await?;
        match answer {
            Ok(answer) => Ok(answer),
            Err(ttrpc::Error::RpcStatus(status)) => Err(TaskError::Guest(status)),
            // The crate has no error of its own for it.
            Err(_) if begun.elapsed() >= within => Err(TaskError::Late { call: name, within }),
            // If the connection broke the machine is lost. All else is about this call alone.
            Err(source) => Err(match timeout(TOLD, self.lost()).await {
                Ok(lost) => lost,
                Err(_) => TaskError::Client(ClientError::Rpc { call: name, source }),
            }),
        }
    }

    /// Waits for something that only a live guest does.
    ///
    /// # Errors
    /// `Lost`.
    pub async fn alive<T>(&self, step: impl Future<Output = T>) -> Result<T, TaskError> {
        select! {
            biased;
            done = step => Ok(done),
            lost = self.lost() => Err(lost),
        }
    }

    /// Says that the machine is to be thought gone. The first who says so is believed.
    pub fn doom(&self, fate: Fate) {
        self.fate.send_if_modified(|known| {
            let first = known.is_none();
            known.get_or_insert(fate);
            first
        });
    }

    pub fn is_lost(&self) -> bool {
        self.fate.borrow().is_some()
    }

    /// Waits until somebody has said so.
    pub async fn doomed(&self) -> Fate {
        let mut fate = self.fate.subscribe();
        let known = fate.wait_for(Option::is_some).await.expect("the sender is this link's own");
        known.clone().expect("it was waited for")
    }

    /// The error of whatever is asked of a machine that has ended; waits until it has.
    pub async fn lost(&self) -> TaskError {
        TaskError::Lost(self.doomed().await.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;
    use vminitd_api::containerd::api::KillRequest;

    use crate::client::Endpoint;

    /// Length of a ttrpc frame's header: length, stream, type, flags.
    const HEADER: usize = 10;
    /// A response of one byte on the first stream, which is no status and no message.
    const NONSENSE: &[u8] = b"\0\0\0\x01\0\0\0\x01\x02\0\xff";

    fn link() -> (Link, UnixStream) {
        let (ours, guests) = UnixStream::pair().unwrap();
        let streams = Streams { endpoint: Endpoint::Unix("/none".into()) };
        (Link::new(Client::over(ours), streams, "n"), guests)
    }

    async fn kill(link: &Link, request: KillRequest) -> Result<(), TaskError> {
        let task = link.client.task();
        link.call("Task.Kill", SHORT, |ctx| async { task.kill(ctx, &request).await }).await.map(drop)
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_none_holds_nobody_up() {
        let (link, mut guest) = link();
        let answer = async {
            guest.read_exact(&mut [0; HEADER]).await.unwrap();
            guest.write_all(NONSENSE).await.unwrap();
        };
        let (answered, ()) = tokio::join!(kill(&link, KillRequest::default()), answer);
        assert!(matches!(answered, Err(TaskError::Client(_))), "{answered:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_too_large_is_refused() {
        let (link, _guest) = link();
        let request = KillRequest { id: "x".repeat(5 << 20), ..Default::default() };
        let refused = kill(&link, request).await.unwrap_err().to_string();
        assert!(refused.contains("maximum message size"), "{refused}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_breaks_with_the_machine_says_what_became_of_it() {
        let (link, guest) = link();
        drop(guest);
        link.doom(Fate { status: 255, reason: "it burnt".into() });
        let lost = kill(&link, KillRequest::default()).await;
        assert!(matches!(lost, Err(TaskError::Lost(why)) if why == "it burnt"));
    }
}
