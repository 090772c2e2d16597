//! The shim's ttrpc server: one implementation of Task under the names of both versions, on a listener that is given.
//! Owns accepting, the care for handlers that were begun, and the ordered end; never knows what a request means.

mod begun;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, Stream};
use tokio::net::UnixStream;
use tokio::select;
use tokio::signal::unix::{signal, SignalKind};
use tokio::time::{sleep, timeout_at, Instant};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use ttrpc::asynchronous::transport::Listener;
use ttrpc::asynchronous::{Server, Service};
use vminitd_api::containerd::shim_async::{create_task, Task};
use vminitd_api::service::{TASK_V2, TASK_V3};

/// How long the end may take: containerd gives Shutdown 3 s, and events are to be flushed after this.
const DRAIN: Duration = Duration::from_secs(2);
/// The pause after an accept that failed, as it does while there are no descriptors left: the ttrpc crate would try
/// again at once, for ever.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The service asked for it: a Shutdown was served.
    Asked,
    /// SIGTERM or SIGINT.
    Signalled,
}

/// Why the server could not begin.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("watch for signals: {0}")]
    Signals(#[source] io::Error),
    #[error("use the listener: {0}")]
    Listener(#[source] io::Error),
    #[error("serve: {0}")]
    Start(#[source] ttrpc::Error),
}

/// Serves `task` until `stop` is cancelled, which its Shutdown does, or SIGTERM or SIGINT comes; those end the shim as
/// Shutdown does, and the VM with it. SIGPIPE is ignored, as in every Rust program.
///
/// Then `socket`, the path of the listener, is removed: a `start` of the same task must not find a shim that ends. What
/// has been begun has [`DRAIN`] to end and to be answered; a Wait that is pending is answered UNAVAILABLE at once. The
/// listener must not block.
///
/// # Errors
/// Any [`ServeError`]; nothing has been served then.
pub async fn serve<T>(
    listener: UnixListener,
    socket: &Path,
    task: Arc<T>,
    stop: CancellationToken,
) -> Result<Ended, ServeError>
where
    T: Task + Send + Sync + 'static,
{
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signals)?;
    let begun = TaskTracker::new();
    let listener = tokio::net::UnixListener::from_std(listener).map_err(ServeError::Listener)?;
    let mut server = Server::new()
        .add_listener(Listener::new(accepted(listener)))
        .register_service(services(task, &begun, &stop));
    server.start().await.map_err(ServeError::Start)?;
    let ended = select! {
        () = stop.cancelled() => Ended::Asked,
        _ = terminate.recv() => Ended::Signalled,
        _ = interrupt.recv() => Ended::Signalled,
    };
    // It may be gone: `delete` removes it too.
    let _ = fs::remove_file(socket);
    stop.cancel();
    drain(server, &begun).await;
    Ok(ended)
}

async fn drain(mut server: Server, begun: &TaskTracker) {
    let deadline = Instant::now() + DRAIN;
    // The crate lets handlers end and their answers go out, for longer than there is time.
    let answered = timeout_at(deadline, server.shutdown()).await.is_ok();
    begun.close();
    // These include what was begun for a caller who has gone since.
    let done = timeout_at(deadline, begun.wait()).await.is_ok();
    if !(answered && done) {
        tracing::warn!(left = begun.len(), "requests are abandoned at the end");
    }
}

/// The messages of the two versions are the same on the wire; only the service's name differs.
fn services<T>(task: Arc<T>, begun: &TaskTracker, stop: &CancellationToken) -> HashMap<String, Service>
where
    T: Task + Send + Sync + 'static,
{
    let service = || {
        let mut services = create_task(task.clone()).into_values();
        begun::finish(services.next().expect("generated code registers its service"), begun, stop)
    };
    [TASK_V2, TASK_V3].into_iter().map(|name| (name.to_string(), service())).collect()
}

/// The connections of the listener, without an end: the ttrpc crate panics at the end of one that has.
fn accepted(listener: tokio::net::UnixListener) -> impl Stream<Item = io::Result<UnixStream>> {
    stream::unfold(listener, |listener| async move {
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        if accepted.is_err() {
            sleep(ACCEPT_PAUSE).await;
        }
        Some((accepted, listener))
    })
}

#[cfg(test)]
mod tests;
