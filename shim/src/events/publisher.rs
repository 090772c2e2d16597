//! Forwarding to containerd: one at a time and in order, for as long as it takes, over a connection that is made anew
//! when containerd is. Owns retries and their bounds; never blocks who publishes.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protobuf::MessageField;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use ttrpc::asynchronous::transport::Socket;
use ttrpc::asynchronous::Client;
use ttrpc::Code;
use vminitd_api::containerd::api::ForwardRequest;
use vminitd_api::containerd::shim::event::Envelope;
use vminitd_api::containerd::shim_async::EventsClient;

use super::queue::Queue;
use super::Event;

/// One try may take so long; the figure of containerd's own shims.
const TRY: Duration = Duration::from_secs(5);
/// The pause between two tries doubles from the first to the second: short, because events order what a client sees,
/// and at most a second, because a containerd that starts anew is there within some.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// After so many errors that containerd itself answered an event is given up, though they look passing: it must not
/// hold up the rest for ever. The figure of containerd's own shims. Tries without an answer do not count.
const ANSWERED_MAX: u32 = 5;

/// A way to containerd for one namespace's events. Clones share it; with the last of them, what is unsent is lost.
#[derive(Debug, Clone)]
pub struct Publisher {
    waiting: Arc<Waiting>,
    _forwarder: Arc<AbortOnDropHandle<()>>,
}

/// The time of a flush was up with so many events unsent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("forward {0} events in time")]
pub struct Unsent(pub usize);

impl Publisher {
    /// Forwards to the ttrpc `address` of containerd, a path with or without `unix://`; nobody needs to be there yet.
    /// Needs a tokio runtime.
    pub fn start(address: &str, namespace: &str) -> Publisher {
        let waiting = Arc::new(Waiting::new(namespace));
        let containerd = Containerd::at(address);
        let forwarder = tokio::spawn(forward_all(waiting.clone(), containerd));
        Publisher { waiting, _forwarder: Arc::new(AbortOnDropHandle::new(forwarder)) }
    }

    /// Queues an event. Each is forwarded at least once: again, if the connection broke before containerd answered.
    pub fn publish(&self, event: Event) {
        self.waiting.push(event);
    }

    /// Waits until all that has been published is forwarded or given up.
    ///
    /// # Errors
    /// `Unsent` after `within`; forwarding goes on.
    pub async fn flush(&self, within: Duration) -> Result<(), Unsent> {
        let mut unsent = self.waiting.unsent.subscribe();
        let done = timeout(within, unsent.wait_for(|unsent| *unsent == 0)).await.is_ok();
        let left = *self.waiting.unsent.borrow();
        if done {
            Ok(())
        } else {
            Err(Unsent(left))
        }
    }
}

/// The queue, and a count that includes the event that is being forwarded.
#[derive(Debug)]
struct Waiting {
    namespace: String,
    queue: Mutex<Queue>,
    unsent: watch::Sender<usize>,
}

impl Waiting {
    fn new(namespace: &str) -> Waiting {
        Waiting { namespace: namespace.to_string(), queue: Mutex::default(), unsent: watch::Sender::new(0) }
    }

    fn push(&self, event: Event) {
        let topic = event.topic();
        let envelope = event.into_envelope(&self.namespace);
        // Counted before anyone can take it out.
        let mut queue = self.queue();
        match queue.push(envelope) {
            None => self.unsent.send_modify(|unsent| *unsent += 1),
            Some(dropped) => {
                tracing::error!(topic, dropped = dropped.topic, "too many events wait: one is lost")
            }
        }
    }

    async fn next(&self) -> Envelope {
        let mut unsent = self.unsent.subscribe();
        loop {
            if let Some(envelope) = self.queue().pop() {
                return envelope;
            }
            // The sender is this very object.
            let _ = unsent.changed().await;
        }
    }

    fn done(&self) {
        self.unsent.send_modify(|unsent| *unsent -= 1);
    }

    /// No code panics while it holds the lock.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn forward_all(waiting: Arc<Waiting>, mut containerd: Containerd) {
    loop {
        let envelope = waiting.next().await;
        let topic = envelope.topic.clone();
        match containerd.forward(envelope).await {
            Ok(()) => tracing::debug!(topic, "forwarded"),
            Err(error) => tracing::error!(topic, %error, "containerd refuses an event: it is lost"),
        }
        waiting.done();
    }
}

struct Containerd {
    path: PathBuf,
    client: Option<Client>,
}

/// What came of one try.
enum Tried {
    Done,
    /// containerd answered an error; `passing` if it may answer otherwise later.
    Answered {
        error: ttrpc::Error,
        passing: bool,
    },
    /// No answer: it is away, or the connection is broken.
    Silent,
}

impl Containerd {
    fn at(address: &str) -> Containerd {
        Containerd { path: address.strip_prefix("unix://").unwrap_or(address).into(), client: None }
    }

    /// Tries until it is done. Never gives up on a containerd that does not answer.
    async fn forward(&mut self, envelope: Envelope) -> ttrpc::Result<()> {
        let request = ForwardRequest { envelope: MessageField::some(envelope), ..Default::default() };
        let (mut pause, mut answered) = (BACKOFF.0, 0);
        loop {
            match timeout(TRY, self.try_once(&request)).await.unwrap_or(Tried::Silent) {
                Tried::Done => return Ok(()),
                Tried::Answered { error, passing } => {
                    answered += 1;
                    if !passing || answered == ANSWERED_MAX {
                        return Err(error);
                    }
                }
                Tried::Silent => self.client = None,
            }
            sleep(pause).await;
            pause = (pause * 2).min(BACKOFF.1);
        }
    }

    async fn try_once(&mut self, request: &ForwardRequest) -> Tried {
        let client = match &self.client {
            Some(client) => client.clone(),
            None => match UnixStream::connect(&self.path).await {
                Ok(stream) => self.client.insert(Client::new(Socket::new(stream))).clone(),
                Err(_) => return Tried::Silent,
            },
        };
        let context = ttrpc::context::with_duration(TRY);
        match EventsClient::new(client).forward(context, request).await {
            Ok(_) => Tried::Done,
            Err(ttrpc::Error::RpcStatus(status)) => {
                let passing = may_pass(status.code());
                Tried::Answered { error: ttrpc::Error::RpcStatus(status), passing }
            }
            Err(_) => Tried::Silent,
        }
    }
}

/// Whether the same event may be taken later. A containerd that is starting or ending answers these.
fn may_pass(code: Code) -> bool {
    matches!(
        code,
        Code::CANCELLED
            | Code::UNKNOWN
            | Code::DEADLINE_EXCEEDED
            | Code::RESOURCE_EXHAUSTED
            | Code::ABORTED
            | Code::INTERNAL
            | Code::UNAVAILABLE
            | Code::UNIMPLEMENTED
    )
}
