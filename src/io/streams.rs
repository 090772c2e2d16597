//! The stream port: connections that carry the raw bytes of one stdio stream each, known by the id the host chose.
//!
//! A stream waits in the table until a request names it and takes it; from then on it belongs to a process. One that
//! no request names expires.

use crate::lock::Lock;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::sync::oneshot;

use super::uri::StreamId;
use crate::sys::socket::Socket;

/// How long a host may take.
#[derive(Debug, Clone, Copy)]
pub struct StreamBounds {
    /// Over the handshake.
    pub handshake: Duration,
    /// To name a stream in a request.
    pub unclaimed: Duration,
}

/// Streams that may wait or be in their handshake at once: more than any host has requests under way.
const WAITING_MAX: usize = 1_024;

/// Streams that no request has named yet; a handle.
#[derive(Clone)]
pub struct StreamTable {
    bounds: StreamBounds,
    table: Arc<Lock<Table>>,
}

#[derive(Default)]
struct Table {
    waiting: HashMap<StreamId, Waiting>,
    handshakes: usize,
}

struct Waiting {
    socket: Socket,
    /// Dropped when the stream leaves the table.
    _left: oneshot::Sender<()>,
}

/// The streams that one request names, taken out of the table: dropping them closes them.
#[derive(Debug, Default)]
pub struct Streams(HashMap<StreamId, Socket>);

impl Streams {
    /// Hands out a stream, once.
    pub fn take(&mut self, id: StreamId) -> Option<Socket> {
        self.0.remove(&id)
    }
}

impl StreamTable {
    pub fn new(bounds: StreamBounds) -> StreamTable {
        StreamTable { bounds, table: Arc::default() }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock()
    }

    /// Takes the streams a request names: all of them, or none and the id of one that is not there.
    pub fn claim(&self, ids: impl IntoIterator<Item = StreamId> + Clone) -> Result<Streams, StreamId> {
        let mut table = self.table();
        if let Some(missing) = ids.clone().into_iter().find(|id| !table.waiting.contains_key(id)) {
            return Err(missing);
        }
        let taken = ids.into_iter().filter_map(|id| Some((id, table.waiting.remove(&id)?.socket)));
        Ok(Streams(taken.collect()))
    }

    /// Closes those of these streams that wait: the request that names them has failed.
    pub fn discard(&self, ids: impl IntoIterator<Item = StreamId>) {
        let mut table = self.table();
        ids.into_iter().for_each(|id| drop(table.waiting.remove(&id)));
    }

    /// Serves one new connection of the stream port until it is claimed, has expired or has failed.
    pub async fn admit(self, socket: Socket) {
        if !self.begin_handshake() {
            tracing::warn!("stream refused: {WAITING_MAX} are waiting already");
            return;
        }
        let id = tokio::time::timeout(self.bounds.handshake, read_id(socket)).await;
        self.table().handshakes -= 1;
        let (id, socket) = match id {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => return tracing::debug!(%error, "stream handshake failed"),
            Err(_) => return tracing::debug!("stream handshake took too long"),
        };
        match self.register(id, socket) {
            Ok(left) => self.expire(id, left).await,
            Err(error) => tracing::warn!(stream = %id, %error, "stream refused"),
        }
    }

    fn begin_handshake(&self) -> bool {
        let mut table = self.table();
        let room = table.waiting.len() + table.handshakes < WAITING_MAX;
        table.handshakes += usize::from(room);
        room
    }

    /// Enters the stream, then answers with its id. An id that is taken is answered by closing the connection.
    fn register(&self, id: StreamId, socket: Socket) -> io::Result<oneshot::Receiver<()>> {
        let mut table = self.table();
        if table.waiting.contains_key(&id) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        // The socket is non-blocking and nothing was ever written to it, so there is room for four bytes. Under the
        // lock: by the time the host has read them, the stream can be claimed.
        if nix::unistd::write(&socket, &id.0.to_be_bytes())? != size_of::<u32>() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let (left_tx, left) = oneshot::channel();
        table.waiting.insert(id, Waiting { socket, _left: left_tx });
        Ok(left)
    }

    /// Waits until the stream has left the table, and sees to it that it does.
    async fn expire(&self, id: StreamId, left: oneshot::Receiver<()>) {
        if tokio::time::timeout(self.bounds.unclaimed, left).await.is_err() {
            tracing::info!(stream = %id, "stream expired: no request named it");
            self.table().waiting.remove(&id);
        }
    }
}

/// The host begins with the id of its stream: four bytes, big-endian.
async fn read_id(mut socket: Socket) -> io::Result<(StreamId, Socket)> {
    let id = socket.read_u32().await?;
    Ok((StreamId(id), socket))
}

#[cfg(test)]
mod tests;
