//! containerd's Streaming service: streams of the stream port's table, opened over the RPC connection.
//!
//! It moves bytes between the messages of one call and the host's end of one stream. Both directions run on their own;
//! what is held of either is bounded by the window.

use std::collections::VecDeque;
use std::future::{self, Future};
use std::io;
use std::pin::Pin;

use protobuf::well_known_types::any::Any;
use protobuf::well_known_types::empty::Empty;
use protobuf::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;
use ttrpc::proto::Status;
use ttrpc::r#async::TtrpcContext;
use ttrpc::{get_status, Code};
use vminitd_api::streaming::StreamInit;
use vminitd_api::transfer::{Data, WindowUpdate};
use vminitd_api::type_url;

use super::error;
use crate::io::{Credit, HostEnd, StreamId, StreamIds, StreamTable, Window, MESSAGE_BYTES};
use crate::wire::{Gone, Stream, StreamCall, StreamMethod};

pub struct Streaming {
    table: StreamTable,
    ids: StreamIds,
}

impl Streaming {
    pub fn new(table: StreamTable, ids: StreamIds) -> Streaming {
        Streaming { table, ids }
    }
}

impl StreamMethod for Streaming {
    fn call(&self, _ctx: TtrpcContext, _request: Vec<u8>, stream: Stream) -> StreamCall {
        Box::pin(serve(self.table.clone(), self.ids, stream))
    }
}

/// Serves one stream, from its first message to its end.
async fn serve(table: StreamTable, ids: StreamIds, mut stream: Stream) -> Result<(), Status> {
    let first = stream.recv().await.ok_or_else(|| invalid("no StreamInit"))?;
    let id = stream_id(&first, ids)?;
    let (host, attached) = table.attach(id).map_err(error::not_attached)?;
    if stream.send(any(type_url::EMPTY, &Empty::new())).await.is_err() {
        return Ok(());
    }
    tokio::select! {
        ended = Bridge::new(stream, host).run() => ended,
        () = attached.expired() => Err(get_status(Code::DEADLINE_EXCEEDED, "no request named the stream in time")),
    }
}

fn stream_id(first: &[u8], ids: StreamIds) -> Result<StreamId, Status> {
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
    async fn run(mut self) -> Result<(), Status> {
        let mut block = vec![0; MESSAGE_BYTES];
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
                // Read before there is credit: the end is to be noticed without any.
                read = self.source.read(&mut block), if self.outgoing.is_empty() && sending.is_none() => match read {
                    // An error is the other end closed with something unread in it.
                    Ok(0) | Err(_) => return Ok(()),
                    Ok(n) => self.outgoing.extend(&block[..n]),
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
            return Some(any(type_url::WINDOW_UPDATE, &update));
        }
        let bytes = self.credit.message().min(self.outgoing.len());
        if bytes == 0 {
            return None;
        }
        self.credit.spend(bytes);
        let data = Data { data: self.outgoing.drain(..bytes).collect(), ..Default::default() };
        Some(any(type_url::DATA, &data))
    }

    fn send(&self, message: Vec<u8>) -> Sending {
        let sender = self.stream.sender();
        Box::pin(async move { sender.send(message).await })
    }

    /// Takes a message of the client; `None` is the end of its half.
    fn receive(&mut self, message: Option<Vec<u8>>) -> Result<(), Status> {
        let Some(message) = message else {
            self.client_open = false;
            self.close_sink_when_done();
            return Ok(());
        };
        match parse(&message)? {
            (name, value) if name == type_url::DATA => {
                let data = Data::parse_from_bytes(&value).map_err(invalid)?.data;
                self.window.receive(data.len()).map_err(error::broken)?;
                match self.sink {
                    Some(_) => self.incoming.extend(&data),
                    None => self.window.take(data.len()),
                }
            }
            (name, value) if name == type_url::WINDOW_UPDATE => {
                let update = WindowUpdate::parse_from_bytes(&value).map_err(invalid)?.update;
                self.credit.add(update).map_err(error::broken)?;
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

fn invalid(text: impl ToString) -> Status {
    get_status(Code::INVALID_ARGUMENT, text)
}

/// The name and the value of an `Any`. Some hosts put a prefix before the name, which ends with a slash.
fn parse(message: &[u8]) -> Result<(String, Vec<u8>), Status> {
    let Any { type_url, value, .. } = Any::parse_from_bytes(message).map_err(invalid)?;
    let name = type_url.rsplit('/').next().unwrap_or_default().to_owned();
    Ok((name, value))
}

/// An encoded `Any` with the bare name as type URL, as containerd writes it.
fn any(name: &str, message: &impl Message) -> Vec<u8> {
    let any = Any { type_url: name.to_owned(), value: encode(message), ..Default::default() };
    encode(&any)
}

fn encode(message: &impl Message) -> Vec<u8> {
    message.write_to_bytes().expect("these messages have no required fields")
}
