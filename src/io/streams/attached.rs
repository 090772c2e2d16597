//! Streams that come by another way than the stream port: one end in the table, the other with whoever carries it.

use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::place::Place;
use super::{EnterError, StreamTable};
use crate::io::StreamId;
use crate::sys::socket::Socket;

/// The host's end of an attached stream.
pub struct HostEnd {
    pub socket: UnixStream,
    /// Resolves when a request names the stream: with a value if the host will only read.
    pub only_read: oneshot::Receiver<()>,
}

impl StreamTable {
    /// Enters a stream under `id`, and gives the end that is the host's. Must be called within a runtime.
    pub fn attach(&self, id: StreamId) -> Result<(HostEnd, Place), EnterError> {
        let (socket, theirs) = UnixStream::pair()?;
        let (only_read_tx, only_read) = oneshot::channel();
        let place = self.enter(&id, Socket::Unix(theirs), Some(only_read_tx), &[]);
        Ok((HostEnd { socket, only_read }, place.map_err(|(error, _)| error)?))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::io::streams::WAITING_MAX;
    use crate::io::{StreamIds, StreamSettings};

    fn id() -> StreamId {
        StreamId::number(7)
    }

    fn table() -> StreamTable {
        let bound = Duration::from_secs(60);
        StreamTable::new(StreamSettings { ids: StreamIds::Numeric, handshake: bound, unclaimed: bound })
    }

    fn is_taken(table: &StreamTable) -> bool {
        matches!(table.attach(id()), Err(EnterError::Taken(_)))
    }

    #[tokio::test]
    async fn it_is_claimed_like_any_other_and_its_id_is_free_then() {
        let table = table();
        let (_host, first) = table.attach(id()).expect("a free id");
        assert!(is_taken(&table));
        let mut streams = table.claim(&[id()]).expect("it waits");
        assert!(streams.take(&id()).is_some());
        let (_other_host, _second) = table.attach(id()).expect("the id is free again");
        drop(first);
        assert!(is_taken(&table), "the first has nothing to give up any more");
    }

    #[tokio::test]
    async fn its_host_is_told_whether_it_may_write() {
        let table = table();
        let (stdin, _place) = table.attach(id()).expect("a free id");
        let _stdin = table.claim(&[id()]).expect("it waits").take(&id()).expect("it was claimed");
        assert!(stdin.only_read.await.is_err());
        let (output, _place) = table.attach(id()).expect("the id is free again");
        let _output = table.claim(&[id()]).expect("it waits").take_output(&id()).expect("it was claimed");
        assert!(output.only_read.await.is_ok());
    }

    #[tokio::test]
    async fn dropping_it_gives_up_its_place() {
        let table = table();
        drop(table.attach(id()).expect("a free id"));
        assert!(table.claim(&[id()]).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn it_expires_when_no_request_names_it() {
        let table = table();
        let (mut host, mut place) = table.attach(id()).expect("a free id");
        assert!(!place.left_in_time().await);
        drop(place);
        assert!(table.claim(&[id()]).is_err());
        assert_eq!(host.socket.read(&mut [0]).await.ok(), Some(0), "its other end is closed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_claimed_one_never_expires() {
        let table = table();
        let (_ours, mut place) = table.attach(id()).expect("a free id");
        let _streams = table.claim(&[id()]).expect("it waits");
        assert!(place.left_in_time().await);
    }

    #[tokio::test]
    async fn the_oldest_gives_way_when_the_table_is_full() {
        let table = table();
        let (mut oldest, _place) = table.attach(id()).expect("a free id");
        let others: Vec<_> =
            (100..100 + WAITING_MAX as u32).map(|id| table.attach(StreamId::number(id))).collect();
        assert!(others.iter().all(Result::is_ok));
        assert_eq!(oldest.socket.read(&mut [0]).await.ok(), Some(0), "its other end is closed");
        assert!(table.claim(&[id()]).is_err());
    }
}
