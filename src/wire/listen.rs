//! Listening: where, who may call, and an accept that never gives up.
//!
//! Both ports of the guest use it. It never reads from a connection.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use tokio::sync::watch;
use tokio::time::{sleep, Instant};

use crate::flag::raised;
use crate::sys::socket::{self, Socket};

/// The context id of the host (vsock(7)). Nobody else may call: a container of this VM must not drive PID 1.
const VMADDR_CID_HOST: u32 = libc::VMADDR_CID_HOST;
/// The first pause when the kernel has no descriptor or memory for a connection.
const PAUSE_FIRST: Duration = Duration::from_millis(10);
/// The longest pause: a host that probes twice a second is kept waiting no longer than it takes to notice.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Refused peers are logged at most once in this time.
const REFUSAL_LOG_EVERY: Duration = Duration::from_secs(10);

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket, created with mode 0600 in place of a stale one.
    Unix(PathBuf),
    /// A vsock port, on any context id of this VM.
    Vsock(u32),
}

/// A bound, listening socket.
pub struct Listener {
    inner: socket::Listener,
    backoff: Backoff,
    refusals: Refusals,
}

impl Listener {
    /// Binds and listens. Must be called within a runtime.
    ///
    /// # Errors
    /// Whatever the kernel says: address in use, no vsock, no such folder.
    pub fn bind(address: &Address) -> io::Result<Self> {
        let inner = match address {
            Address::Unix(path) => socket::Listener::bind_unix(path)?,
            Address::Vsock(port) => socket::Listener::bind_vsock(*port)?,
        };
        Ok(Self { inner, backoff: Backoff::default(), refusals: Refusals::default() })
    }

    /// The next connection of a peer that may call. Never fails: it waits until the kernel can give one. Cancel safe.
    pub async fn accept(&mut self) -> Socket {
        loop {
            let socket = self.backoff.retry(|| self.inner.accept()).await;
            match socket.peer_cid() {
                None | Some(VMADDR_CID_HOST) => return socket,
                Some(cid) => self.refusals.note(cid),
            }
        }
    }
}

/// Accepts connections and hands each to `on_conn`, until `stop` becomes true. Connections in the backlog are then
/// refused by the kernel, as the listener is dropped.
pub async fn accept_loop(
    mut listener: Listener,
    mut stop: watch::Receiver<bool>,
    mut on_conn: impl FnMut(Socket),
) {
    loop {
        tokio::select! {
            biased;
            () = raised(&mut stop) => return,
            socket = listener.accept() => on_conn(socket),
        }
    }
}

/// The pauses of one episode of failing accepts.
#[derive(Default)]
pub(super) struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    /// Repeats `accept` until it succeeds.
    pub(super) async fn retry<T, F>(&mut self, mut accept: impl FnMut() -> F) -> T
    where
        F: Future<Output = io::Result<T>>,
    {
        loop {
            match accept().await {
                Ok(accepted) => {
                    self.last = None;
                    return accepted;
                }
                Err(e) => self.pause_after(&e).await,
            }
        }
    }

    async fn pause_after(&mut self, error: &io::Error) {
        if self.last.is_none() && !concerns_one_connection(error) {
            tracing::warn!(%error, "cannot accept; trying again");
        }
        if let Some(pause) = self.next_pause(error) {
            sleep(pause).await;
        }
    }

    /// How long to wait after `error`; `None` if the next accept may well succeed.
    pub(super) fn next_pause(&mut self, error: &io::Error) -> Option<Duration> {
        if concerns_one_connection(error) {
            return None;
        }
        let pause = self.last.map_or(PAUSE_FIRST, |last| (last * 2).min(PAUSE_MAX));
        self.last = Some(pause);
        Some(pause)
    }
}

/// Whether the error says nothing about the next accept: accept(2) reports a connection's own end as its error.
fn concerns_one_connection(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EINTR | Errno::ECONNABORTED | Errno::ECONNRESET | Errno::EPROTO))
}

/// Peers that were turned away.
#[derive(Default)]
struct Refusals {
    logged: Option<Instant>,
    unlogged: u64,
}

impl Refusals {
    fn note(&mut self, cid: u32) {
        if self.logged.is_some_and(|logged| logged.elapsed() < REFUSAL_LOG_EVERY) {
            self.unlogged += 1;
            return;
        }
        tracing::warn!(cid, others = self.unlogged, "refused a vsock peer that is not the host");
        self.logged = Some(Instant::now());
        self.unlogged = 0;
    }
}
