//! The stream port: connections that carry the raw bytes of one stdio stream each, known by the id the host chose.
//!
//! A stream waits in the table until a request names it and takes it; from then on it belongs to a process. One that
//! no request names expires, and one whose host has gone without a word leaves soon.

use crate::lock::Lock;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::handshake::{self, Hello};
use super::relay::half_close;
use super::uri::{StreamId, StreamIds};
use crate::sys::socket::Socket;

mod attached;
mod place;

pub use attached::HostEnd;
use place::Place;

/// How streams are named, and how long a host may take.
#[derive(Debug, Clone, Copy)]
pub struct StreamSettings {
    pub ids: StreamIds,
    /// Over the handshake.
    pub handshake: Duration,
    /// To name a stream in a request.
    pub unclaimed: Duration,
}

/// Streams that may wait at once: more than any host has requests under way. The oldest gives way to a new one, so those
/// that no request will ever name keep nobody out.
const WAITING_MAX: usize = 1_024;

/// Connections that may be in their handshake, or be told that it failed, at once. The oldest gives way to a new one, as a host that means it has
/// said its id within a round trip: silent ones keep nobody out.
const HANDSHAKES_MAX: usize = 1_024;

/// Streams that no request has named yet; a handle.
#[derive(Clone)]
pub struct StreamTable {
    settings: StreamSettings,
    table: Arc<Lock<Table>>,
}

#[derive(Default)]
struct Table {
    waiting: HashMap<StreamId, Waiting>,
    /// From the oldest on. Dropping a sender ends its handshake.
    handshakes: VecDeque<(u64, oneshot::Sender<()>)>,
    /// The age of the next stream or handshake.
    next: u64,
}

struct Waiting {
    age: u64,
    socket: Socket,
    only_read: OnlyRead,
    /// Dropped when the stream leaves the table.
    _left: oneshot::Sender<()>,
}

/// Why a stream cannot be entered.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    #[error("stream {0} is waiting already")]
    Taken(StreamId),
    /// Making it, or answering on it.
    #[error("open a stream: {0}")]
    Io(#[from] io::Error),
}

/// Tells whoever carries a stream that its host will only read it. Dropped: that it may write.
type OnlyRead = Option<oneshot::Sender<()>>;

/// The streams that one request names, taken out of the table: dropping them closes them.
#[derive(Debug, Default)]
pub struct Streams(Vec<(StreamId, Socket, OnlyRead)>);

impl Streams {
    /// Hands out a stream, once.
    pub fn take(&mut self, id: &StreamId) -> Option<Socket> {
        self.remove(id).map(|(socket, _)| socket)
    }

    /// The same, for one that is only written to from here.
    pub fn take_output(&mut self, id: &StreamId) -> Option<Socket> {
        let (socket, only_read) = self.remove(id)?;
        if let Some(only_read) = only_read {
            // Whoever carries it may have gone; the socket says so too.
            let _ = only_read.send(());
        }
        Some(socket)
    }

    fn remove(&mut self, id: &StreamId) -> Option<(Socket, OnlyRead)> {
        let at = self.0.iter().position(|(other, ..)| other == id)?;
        let (_, socket, only_read) = self.0.swap_remove(at);
        Some((socket, only_read))
    }
}

impl StreamTable {
    pub fn new(settings: StreamSettings) -> StreamTable {
        StreamTable { settings, table: Arc::default() }
    }

    pub fn settings(&self) -> StreamSettings {
        self.settings
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock()
    }

    /// Takes the streams a request names: all of them, or none and the id of one that is not there.
    pub fn claim(&self, ids: &[StreamId]) -> Result<Streams, StreamId> {
        let mut table = self.table();
        if let Some(missing) = ids.iter().find(|id| !table.waiting.contains_key(id)) {
            return Err(missing.clone());
        }
        let taken = ids.iter().filter_map(|id| {
            let Waiting { socket, only_read, .. } = table.waiting.remove(id)?;
            Some((id.clone(), socket, only_read))
        });
        Ok(Streams(taken.collect()))
    }

    /// Closes those of these streams that wait: the request that names them has failed.
    pub fn discard(&self, ids: &[StreamId]) {
        let mut table = self.table();
        ids.iter().for_each(|id| drop(table.waiting.remove(id)));
    }

    /// Closes all that wait: no request will name them any more.
    pub fn clear(&self) {
        self.table().waiting.clear();
    }

    /// Serves one new connection of the stream port until it is claimed, has expired or has failed.
    pub async fn admit(self, mut socket: Socket) {
        let hello = match self.handshake(&mut socket).await {
            Ok(hello) => hello,
            Err(error) => return tracing::debug!(%error, "stream handshake failed"),
        };
        let watch = socket.watch_peer();
        match self.enter(&hello.id, socket, None, &hello.bytes) {
            Ok(place) => place.keep(watch).await,
            Err((error, socket)) => {
                drop(watch);
                tracing::warn!(stream = %hello.id, %error, "stream refused");
                if let EnterError::Taken(id) = error {
                    self.refuse(&id, socket).await;
                }
            }
        }
    }

    /// Lets the host say its id, within its time and for as long as there is room for it.
    async fn handshake(&self, socket: &mut Socket) -> io::Result<Hello> {
        self.bounded(handshake::read(self.settings.ids, socket)).await
    }

    /// Waits for a host to do its part of a handshake.
    async fn bounded<T>(&self, part: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let (turn, gives_way) = self.begin_handshake();
        let done = tokio::select! {
            done = timeout(self.settings.handshake, part) => {
                done.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            }
            _ = gives_way => Err(io::ErrorKind::ConnectionAborted.into()),
        };
        self.table().handshakes.retain(|(other, _)| *other != turn);
        done
    }

    fn begin_handshake(&self) -> (u64, oneshot::Receiver<()>) {
        let mut table = self.table();
        if table.handshakes.len() >= HANDSHAKES_MAX {
            table.handshakes.pop_front();
        }
        let (stays, gives_way) = oneshot::channel();
        let turn = table.age();
        table.handshakes.push_back((turn, stays));
        (turn, gives_way)
    }

    /// Answers on a stream and enters it, or gives it back.
    fn enter(
        &self,
        id: &StreamId,
        socket: Socket,
        only_read: OnlyRead,
        answer: &[u8],
    ) -> Result<Place, (EnterError, Socket)> {
        let mut table = self.table();
        // Whoever dials again after a failure must not wait for what it has left behind.
        if table.waiting.get(id).is_some_and(|first| !first.socket.peer_has_gone()) {
            return Err((EnterError::Taken(id.clone()), socket));
        }
        // Under the lock: by the time the host has read it, the stream can be claimed.
        if let Err(error) = socket.write_at_once(answer) {
            return Err((error.into(), socket));
        }
        let (left_tx, left) = oneshot::channel();
        let age = table.age();
        table.waiting.insert(id.clone(), Waiting { age, socket, only_read, _left: left_tx });
        if table.waiting.len() > WAITING_MAX {
            table.drop_oldest();
        }
        Ok(Place { table: self.clone(), id: id.clone(), left })
    }

    /// Tells the host that the id is taken. A connection that is closed right behind an answer may take it along, so
    /// the host gets some time to read it.
    async fn refuse(&self, id: &StreamId, mut socket: Socket) {
        let Some(answer) = handshake::taken(self.settings.ids, id) else { return };
        let told = async {
            socket.write_all(&answer).await?;
            half_close(socket).await
        };
        // A host that has gone needs no answer.
        let _ = self.bounded(told).await;
    }
}

impl Table {
    fn age(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn drop_oldest(&mut self) {
        let oldest = self.waiting.iter().min_by_key(|(_, stream)| stream.age).map(|(id, _)| id.clone());
        if let Some(id) = oldest {
            tracing::warn!(stream = %id, "stream dropped: {WAITING_MAX} younger ones are waiting");
            self.waiting.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests;
