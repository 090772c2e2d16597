//! The relays of one process as a whole: what others may await of them, and their end. Never moves a byte itself.

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{error_span, Instrument};

use super::dial::GuestEnds;
use super::ends::Ends;
use super::logger::Logger;
use super::relay::{self, StdinOrders};

/// The running relays of one process. Dropping them ends them at once; a logger then ends by itself, within its bounds.
#[derive(Debug)]
pub struct Relays {
    tasks: JoinSet<()>,
    orders: StdinOrders,
    /// Whether stdin has ended, if there is one. Its sender is gone when the relay failed, which is an end too.
    stdin: Option<watch::Receiver<bool>>,
    /// Whether each output has been written to its end; as above.
    outputs: Vec<watch::Receiver<bool>>,
    logger: Option<Logger>,
}

impl Ends {
    /// Begins to relay, on the calling runtime.
    pub fn relay(self, guest: GuestEnds) -> Relays {
        let mut tasks = JoinSet::new();
        let orders = StdinOrders::default();
        let log = |stdio| error_span!("relay", process = self.process, stdio);
        let stdin = self.stdin.zip(guest.stdin).map(|(fifo, stream)| {
            let (ended, seen) = watch::channel(false);
            tasks.spawn(relay::input(fifo, stream, orders.clone(), ended).instrument(log("stdin")));
            seen
        });
        let outputs = [("stdout", self.stdout.zip(guest.stdout)), ("stderr", self.stderr.zip(guest.stderr))];
        let outputs = outputs.into_iter().filter_map(|(stdio, ends)| {
            let ((sink, stream), (written, seen)) = (ends?, watch::channel(false));
            tasks.spawn(relay::output(stream, sink, written).instrument(log(stdio)));
            Some(seen)
        });
        let outputs = outputs.collect();
        Relays { tasks, orders, stdin, outputs, logger: self.logger }
    }
}

impl Relays {
    /// Lets stdin outlive its clients from now on: the request that created its process was answered, and clients may
    /// attach and detach. One that has closed stdin before has closed it for good: `ctr` never says so then, as it
    /// learns too late whom to tell.
    pub fn hold_stdin(&self) {
        self.orders.hold.cancel();
    }

    /// Lets stdin end with its last client (CloseIO). At any time, and as often as one likes.
    pub fn close_stdin(&self) {
        self.orders.close.cancel();
    }

    /// Waits until the guest was given all of stdin and its end, or no longer takes any. At once without a stdin; for
    /// ever while [`Self::close_stdin`] was not called, or a client keeps the FIFO open.
    pub fn stdin_ended(&self) -> impl Future<Output = ()> + Send + 'static {
        let stdin = self.stdin.clone();
        async move { all(stdin).await }
    }

    /// Waits until all output of the guest was written, at most for `bound`; whether it was. Relaying goes on anyway.
    pub fn drained(&self, bound: Duration) -> impl Future<Output = bool> + Send + 'static {
        let outputs = self.outputs.clone();
        async move { timeout(bound, all(outputs)).await.is_ok() }
    }

    /// Ends the relays, whatever they still hold, closes all ends, and waits for the logger, for as long as
    /// [`Logger::finish`] does.
    pub async fn release(mut self) {
        self.tasks.abort_all();
        while let Some(ended) = self.tasks.join_next().await {
            if let Some(error) = ended.err().filter(|error| error.is_panic()) {
                tracing::error!(%error, "a relay failed");
            }
        }
        if let Some(logger) = self.logger {
            logger.finish().await;
        }
    }
}

async fn all(signals: impl IntoIterator<Item = watch::Receiver<bool>>) {
    for mut signal in signals {
        // An error means that nobody is left to send it.
        let _ = signal.wait_for(|reached| *reached).await;
    }
}
