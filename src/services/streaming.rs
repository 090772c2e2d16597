//! containerd's Streaming service: streams of the stream port's table, opened over the RPC connection.
//!
//! It moves bytes between the messages of one call and the host's end of one stream. Both directions run on their own;
//! what is held of either is bounded by the window.

use std::collections::VecDeque;
use std::future::{self, Future};
use std::io;
use std::pin::Pin;
use std::time::Duration;

use protobuf::well_known_types::any::Any;
use protobuf::well_known_types::empty::Empty;
use protobuf::Message;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;
use tokio::time::timeout;
use ttrpc::r#async::TtrpcContext;
use vminitd_api::streaming::StreamInit;
use vminitd_api::transfer::{Data, WindowUpdate};
use vminitd_api::type_url;

use super::error::{self, invalid, too_late};
use super::{any, type_name};
use crate::io::{Credit, HostEnd, StreamId, StreamIds, StreamTable, Window, MESSAGE_BYTES};
use crate::wire::{Gone, Stream, StreamCall, StreamMethod};

/// How often a stream that waits for its client is looked at for the end of its process.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a client may take to grant more once the process is gone: a call has no cancel on the wire, so one that gave
/// up without closing its connection looks like this.
const LAST_GRANT: Duration = Duration::from_secs(30);

pub struct Streaming {
    table: StreamTable,
}

impl Streaming {
    pub fn new(table: StreamTable) -> Streaming {
        Streaming { table }
    }
}

impl StreamMethod for Streaming {
    fn call(&self, _ctx: TtrpcContext, _request: Vec<u8>, stream: Stream) -> StreamCall {
        let table = self.table.clone();
        Box::pin(async move { serve(table, stream).await.map_err(error::status) })
    }
}

/// Serves one stream, from its first message to its end.
async fn serve(table: StreamTable, mut stream: Stream) -> ttrpc::Result<()> {
    let settings = table.settings();
    let first = first_message(stream.recv(), settings.handshake).await?;
    let id = stream_id(&first, settings.ids)?;
    let (host, mut place) = table.attach(id)?;
    let bridged = async {
        match stream.send(frame(type_url::EMPTY, &Empty::new())).await {
            Ok(()) => Bridge::new(stream, host).run().await,
            Err(Gone) => Ok(()),
        }
    };
    tokio::select! {
        ended = bridged => ended,
        false = place.left_in_time() => Err(too_late("no request named the stream in time")),
    }
}

/// A call that says nothing holds a place on its connection, so it has as long as a connection of the stream port.
async fn first_message(
    message: impl Future<Output = Option<Vec<u8>>>,
    limit: Duration,
) -> ttrpc::Result<Vec<u8>> {
    let message = timeout(limit, message).await.map_err(|_| too_late("no StreamInit came in time"))?;
    message.ok_or_else(|| invalid("no StreamInit"))
}

fn stream_id(first: &[u8], ids: StreamIds) -> ttrpc::Result<StreamId> {
    let (name, value) = parse(first)?;
    if name != type_url::STREAM_INIT {
        return Err(invalid(format_args!("{name:?} where StreamInit is due")));
    }
    let init = StreamInit::parse_from_bytes(&value).map_err(invalid)?;
    ids.parse(&init.id).ok_or_else(|| invalid(format_args!("malformed stream id {:?}", init.id)))
}

/// One open stream, between the client's messages and the host's end of the socket.
struct Bridge {
    stream: Stream,
    /// What the client may send, and what it has sent that the socket has not taken.
    window: Window,
    incoming: VecDeque<u8>,
    /// `None` once the client's half is closed and all of it was taken, or nobody takes it any more.
    sink: Option<OwnedWriteHalf>,
    client_open: bool,
    granting: Granting,
    /// What may be sent to the client, and what was read for it.
    credit: Credit,
    outgoing: VecDeque<u8>,
    source: OwnedReadHalf,
}

/// Whether the client is granted anything. containerd's reader of a stream complains of a grant, so one that only
/// reads gets none; which that is shows when a request names the stream.
enum Granting {
    Undecided(oneshot::Receiver<()>),
    Decided(bool),
}

impl Granting {
    /// Waits for the decision; for ever if it was made. Cancel safe.
    async fn decide(&mut self) {
        match self {
            Granting::Undecided(only_read) => *self = Granting::Decided(only_read.await.is_err()),
            Granting::Decided(_) => future::pending().await,
        }
    }
}

/// A message on its way to the client.
type Sending = Pin<Box<dyn Future<Output = Result<(), Gone>> + Send>>;

impl Bridge {
    fn new(stream: Stream, host: HostEnd) -> Bridge {
        let (source, sink) = host.socket.into_split();
        Bridge {
            stream,
            window: Window::default(),
            incoming: VecDeque::new(),
            sink: Some(sink),
            client_open: true,
            granting: Granting::Undecided(host.only_read),
            credit: Credit::default(),
            outgoing: VecDeque::new(),
            source,
        }
    }

    /// Moves bytes until the other end of the socket is closed and the client has been sent all that came from it, or
    /// the client has gone.
    async fn run(mut self) -> ttrpc::Result<()> {
        let mut sending: Option<Sending> = None;
        loop {
            sending = sending.or_else(|| self.next_message().map(|message| self.send(message)));
            tokio::select! {
                () = self.granting.decide() => {}
                message = self.stream.recv(), if self.client_open => self.receive(message)?,
                written = feed(&mut self.sink, &self.incoming), if !self.incoming.is_empty() => self.fed(written),
                sent = waited(&mut sending) => match sent {
                    Ok(()) => sending = None,
                    Err(Gone) => return Ok(()),
                },
                () = given_up(&self.source), if !self.outgoing.is_empty() => {
                    return Err(too_late("what the process had written was not taken"));
                }
                // Read before there is credit: the end is to be noticed without any.
                read = read(&self.source), if self.outgoing.is_empty() && sending.is_none() => match read {
                    Some(bytes) => self.outgoing = bytes.into(),
                    None => return Ok(()),
                },
            }
        }
    }

    /// What is to be sent next, if anything may be.
    fn next_message(&mut self) -> Option<Vec<u8>> {
        let grants = self.client_open && matches!(self.granting, Granting::Decided(true));
        let grant = if grants { self.window.grant() } else { None };
        if let Some(grant) = grant {
            let update = WindowUpdate { update: grant as i32, ..Default::default() };
            return Some(frame(type_url::WINDOW_UPDATE, &update));
        }
        let bytes = self.credit.message().min(self.outgoing.len());
        if bytes == 0 {
            return None;
        }
        self.credit.spend(bytes);
        let data = Data { data: self.outgoing.drain(..bytes).collect(), ..Default::default() };
        Some(frame(type_url::DATA, &data))
    }

    fn send(&self, message: Vec<u8>) -> Sending {
        let sender = self.stream.sender();
        Box::pin(async move { sender.send(message).await })
    }

    /// Takes a message of the client; `None` is the end of its half.
    fn receive(&mut self, message: Option<Vec<u8>>) -> ttrpc::Result<()> {
        let Some(message) = message else {
            self.client_open = false;
            self.close_sink_when_done();
            return Ok(());
        };
        match parse(&message)? {
            (name, value) if name == type_url::DATA => {
                let data = Data::parse_from_bytes(&value).map_err(invalid)?.data;
                self.window.receive(data.len())?;
                match self.sink {
                    Some(_) => self.incoming.extend(&data),
                    None => self.window.take(data.len()),
                }
            }
            (name, value) if name == type_url::WINDOW_UPDATE => {
                let update = WindowUpdate::parse_from_bytes(&value).map_err(invalid)?.update;
                self.credit.add(update)?;
            }
            (name, _) => return Err(invalid(format_args!("{name:?} on an open stream"))),
        }
        Ok(())
    }

    /// Takes note of what the socket has taken. Once nobody reads it, the rest is thrown away.
    fn fed(&mut self, written: io::Result<usize>) {
        let taken = written.unwrap_or_else(|_| {
            self.sink = None;
            self.incoming.len()
        });
        self.incoming.drain(..taken);
        self.window.take(taken);
        self.close_sink_when_done();
    }

    /// Dropping the sink half-closes the socket.
    fn close_sink_when_done(&mut self) {
        if !self.client_open && self.incoming.is_empty() {
            self.sink = None;
        }
    }
}

/// Waits until the process's side is closed and then as long as a client may take to grant more.
async fn given_up(source: &OwnedReadHalf) {
    // There is unread data, so the socket is always ready: whether it is closed has to be looked at.
    let is_closed = || source.ready(Interest::READABLE);
    while !is_closed().await.is_ok_and(|ready| ready.is_read_closed()) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    tokio::time::sleep(LAST_GRANT).await;
}

/// Waits for some bytes; `None` at the end. Costs no memory while there are none. Cancel safe.
async fn read(source: &OwnedReadHalf) -> Option<Vec<u8>> {
    loop {
        // An error is the other end closed with something unread in it.
        source.readable().await.ok()?;
        let mut block = vec![0; MESSAGE_BYTES];
        match source.try_read(&mut block) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Ok(0) | Err(_) => return None,
            Ok(n) => block.truncate(n),
        }
        return Some(block);
    }
}

/// Hands over some of the bytes; for ever if there is nobody to hand them to. Cancel safe.
async fn feed(sink: &mut Option<OwnedWriteHalf>, bytes: &VecDeque<u8>) -> io::Result<usize> {
    match sink {
        Some(sink) => sink.write(bytes.as_slices().0).await,
        None => future::pending().await,
    }
}

/// Waits until a message has been sent; for ever if there is none. Cancel safe.
async fn waited(sending: &mut Option<Sending>) -> Result<(), Gone> {
    match sending {
        Some(sending) => sending.await,
        None => future::pending().await,
    }
}

/// The name and the value of a message of the client.
fn parse(message: &[u8]) -> ttrpc::Result<(String, Vec<u8>)> {
    let any = Any::parse_from_bytes(message).map_err(invalid)?;
    Ok((type_name(&any).to_owned(), any.value))
}

/// A message for the client.
fn frame(name: &str, message: &impl Message) -> Vec<u8> {
    any(name, message).write_to_bytes().expect("this message has no required fields")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_that_says_nothing_ends_when_the_handshakes_time_is_over() {
        let limit = Duration::from_secs(5);
        let started = tokio::time::Instant::now();
        let silence = first_message(future::pending(), limit).await;
        assert_eq!(started.elapsed(), limit);
        assert_eq!(silence.map_err(|error| error::status(error).code()), Err(ttrpc::Code::DEADLINE_EXCEEDED));
    }

    #[tokio::test]
    async fn a_call_that_ends_without_a_message_is_invalid() {
        let ended = first_message(future::ready(None), Duration::MAX).await;
        assert_eq!(ended.map_err(|error| error::status(error).code()), Err(ttrpc::Code::INVALID_ARGUMENT));
    }

    /// A call has no cancel on the wire: a client that gave up looks like one that is slow.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_grants_nothing_is_given_up_only_once_its_process_is_gone() {
        let (host, mut guest) = tokio::net::UnixStream::pair().expect("a socket pair");
        guest.write_all(b"not granted").await.expect("write");
        let (source, _sink) = host.into_split();
        let slow = timeout(Duration::from_secs(3600), given_up(&source)).await;
        slow.expect_err("the process may still write");
        drop(guest);
        let started = tokio::time::Instant::now();
        given_up(&source).await;
        let waited = started.elapsed();
        assert!((LAST_GRANT..=LAST_GRANT + LOOK_EVERY).contains(&waited), "{waited:?}");
    }
}
