//! One connection: reads frames, does what the session says, and sees every call to its end.
//!
//! It owns the socket and the bounds of a connection. It never knows what a call means, and no frame, panic or
//! vanished peer ends anything but this one connection.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, ReadHalf, WriteHalf};
use tokio::sync::{watch, Semaphore};
use tokio::task::unconstrained;
use tokio::time::{timeout, Instant};
use ttrpc::proto::{Code, MessageHeader, Request, Response, Status};
use ttrpc::r#async::TtrpcContext;
use ttrpc::{get_status, Error};

use super::caller::Caller;
use super::calls::{Calls, Lane, Outcome, Reply, Work};
use super::frame::{self, Decoder};
use super::outbox::{outbox, Outbox};
use super::router::{Router, Unary};
use super::session::{Opening, Session, Step};
use super::stream::{Inlet, Stream, Undelivered};
use crate::flag::raised;
use crate::sys::socket::Socket;

/// Bytes read at a time. A small one: each idle connection holds such a buffer.
const READ_CHUNK: usize = 16 << 10;
/// How long a connection that ends waits for its last answers to be read, and then for the peer to close: a vsock that is
/// closed with data on its way loses it.
const LINGER: Duration = Duration::from_secs(1);
/// How a connection that ends by our will says so to its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Farewell {
    /// A half-close, upon which the peer closes.
    HalfClose,
    /// For vhost-device-vsock, which hides a half-close: full shutdowns until the peer has taken everything. Of a Unix
    /// socket a half-close all the same.
    Drain,
}

/// What one connection may take, and how it ends.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Calls that do something at a time; one more is answered `RESOURCE_EXHAUSTED`.
    pub requests_in_flight: usize,
    /// Messages of the client that handlers have not taken yet, in bytes and for all streams; a stream that has no room
    /// for long is ended. At least [`frame::MAX_PAYLOAD`], or the largest message would never be taken.
    pub unread_bytes: usize,
    pub farewell: Farewell,
}

/// Serves one connection until its peer closes it or `stop` becomes true.
///
/// When the peer goes, calls that only wait are dropped, the socket is closed, and the future stays until every call
/// that was begun and changes something is finished. When `stop` becomes true, new calls are answered `UNAVAILABLE`,
/// those in flight (waiting ones and streams too) run on to their end, answers are flushed, and the connection is
/// closed. There is no deadline on the calls: a caller who cannot wait drops the future, which drops them.
pub async fn serve(socket: Socket, router: Arc<Router>, settings: Settings, stop: watch::Receiver<bool>) {
    tracing::debug!("connection opened");
    let (mut reader, socket) = tokio::io::split(socket);
    let (outbox, queue) = outbox();
    // In this task too, so that an answer is written without waking another; and whatever the budget that tokio gives a
    // task, of which reading might leave nothing: a client that keeps sending would never be answered.
    let mut writer = Box::pin(unconstrained(queue.drain(socket)));

    let mut connection = Connection::new(router, settings, outbox);
    let end = tokio::select! {
        biased;
        end = connection.run(&mut reader, stop) => Some(end),
        // It ends before it is told to when the peer is gone.
        _ = &mut writer => None,
    };
    if let None | Some(End::PeerGone) = end {
        connection.abandon();
    }
    connection.outbox.close();
    match end {
        Some(end) => part(reader, writer, end, settings.farewell).await,
        None => drop(reader),
    }
    tracing::debug!("connection closed");
    connection.calls.finish().await;
}

/// Sees the last answers off, and closes the socket. `writer` gives its half of it back when all is written.
async fn part(
    reader: ReadHalf<Socket>,
    writer: impl Future<Output = io::Result<WriteHalf<Socket>>>,
    end: End,
    farewell: Farewell,
) {
    // The writer ends by itself when all is written or the peer is gone; one who does not read is not waited for.
    let flushed = timeout(LINGER, writer).await;
    if let (End::Stopped, Ok(Ok(half))) = (end, flushed) {
        let mut socket = reader.unsplit(half);
        let gone = match (&socket, farewell) {
            (Socket::Vsock(_), Farewell::Drain) => timeout(LINGER, socket.drain()).await.is_ok(),
            _ => timeout(LINGER, tokio::io::copy(&mut socket, &mut tokio::io::sink())).await.is_ok(),
        };
        if !gone {
            tracing::debug!("the peer keeps its half open");
        }
    }
}

/// Why a connection takes no more frames.
enum End {
    PeerGone,
    Stopped,
}

struct Connection {
    router: Arc<Router>,
    decoder: Decoder,
    session: Session,
    calls: Calls,
    outbox: Arc<Outbox>,
    /// Where the messages of open streams go.
    inlets: HashMap<u32, Inlet>,
    unread: Arc<Semaphore>,
    gone: watch::Sender<bool>,
    stopping: bool,
}

impl Connection {
    fn new(router: Arc<Router>, settings: Settings, outbox: Arc<Outbox>) -> Self {
        Self {
            session: Session::new(router.clone()),
            router,
            decoder: Decoder::default(),
            calls: Calls::new(settings.requests_in_flight),
            outbox,
            inlets: HashMap::new(),
            unread: Arc::new(Semaphore::new(settings.unread_bytes)),
            gone: watch::Sender::new(false),
            stopping: false,
        }
    }

    async fn run(&mut self, reader: &mut ReadHalf<Socket>, mut stop: watch::Receiver<bool>) -> End {
        let mut chunk = vec![0; READ_CHUNK].into_boxed_slice();
        let mut stop = pin!(raised(&mut stop));
        loop {
            if self.stopping && self.calls.is_empty() {
                return End::Stopped;
            }
            tokio::select! {
                biased;
                stream_id = self.calls.ended() => self.forget(stream_id),
                () = &mut stop, if !self.stopping => self.stopping = true,
                read = read_when_room(reader, &self.outbox, &mut chunk) => match read {
                    Ok(0) | Err(_) => return End::PeerGone,
                    Ok(length) => self.take(&chunk[..length]).await,
                },
            }
        }
    }

    async fn take(&mut self, mut input: &[u8]) {
        while let Some(incoming) = self.decoder.decode(&mut input) {
            let step = self.session.step(incoming);
            if matches!(step, Step::Call { .. } | Step::Open(_)) {
                self.router.tell_begun();
            }
            match step {
                Step::Ignore => {}
                Step::Answer { stream_id, status } => self.outbox.push(frame::status(stream_id, status)),
                Step::Call { stream_id, unary, request } => self.call(stream_id, unary, request).await,
                Step::Open(opening) => self.open(opening).await,
                Step::Data { stream_id, message, last } => self.deliver(stream_id, message, last).await,
                Step::Abort { stream_id, status } => self.abort(stream_id, status),
            }
        }
    }

    async fn call(&mut self, stream_id: u32, unary: Unary, request: Request) {
        let lane = if unary.abandonable { Lane::Parked } else { Lane::Working };
        let reply = Reply::new(stream_id, self.outbox.clone());
        if let Err(status) = self.admit(lane).await {
            return reply.refuse(status);
        }
        let deadline = deadline(&request);
        let ctx = context(stream_id, &request);
        let caller = Caller::new(self.gone.subscribe());
        let work = async move { Outcome::Response(respond(unary.handler.handler(ctx, request).await)) };
        let work: Work = Box::pin(caller.scope(work));
        if let Some(work) = reply.at_once(work).await {
            self.calls.begin(lane, deadline, reply, work);
        }
    }

    async fn open(&mut self, opening: Opening) {
        let Opening { stream_id, method, request, first, client_open } = opening;
        let reply = Reply::new(stream_id, self.outbox.clone());
        if let Err(status) = self.admit(Lane::Streaming).await {
            self.session.ended(stream_id);
            return reply.refuse(status);
        }
        let gone = self.gone.subscribe();
        let (stream, inlet) = Stream::new(reply.clone(), self.outbox.clone(), gone, self.unread.clone());
        let deadline = deadline(&request);
        let ctx = context(stream_id, &request);
        // The method is called inside the task, so that a panic of it is caught like one of its future.
        let work = async move {
            match method.call(ctx, request.payload, stream).await {
                Ok(()) => Outcome::Closed,
                Err(status) => Outcome::Response(failed(status)),
            }
        };
        self.calls.begin(Lane::Streaming, deadline, reply, Box::pin(work));
        if client_open {
            self.inlets.insert(stream_id, inlet);
            self.deliver(stream_id, first, false).await;
        }
    }

    async fn deliver(&mut self, stream_id: u32, message: Option<Vec<u8>>, last: bool) {
        let delivered = match (self.inlets.get(&stream_id), message) {
            (Some(inlet), Some(message)) => inlet.deliver(message).await,
            _ => Ok(()),
        };
        if last {
            self.inlets.remove(&stream_id);
        }
        if delivered == Err(Undelivered::Full) {
            self.abort(
                stream_id,
                get_status(Code::RESOURCE_EXHAUSTED, "stream is full: its handler does not read"),
            );
        }
    }

    fn abort(&mut self, stream_id: u32, status: Status) {
        self.calls.abort(stream_id, status);
        self.forget(stream_id);
    }

    fn forget(&mut self, stream_id: u32) {
        self.inlets.remove(&stream_id);
        self.session.ended(stream_id);
    }

    /// Whether one more call may begin.
    async fn admit(&mut self, lane: Lane) -> Result<(), Status> {
        if self.stopping {
            return Err(get_status(Code::UNAVAILABLE, "shutting down"));
        }
        if !self.calls.has_room(lane) {
            // Calls that need no waiting get a chance to end first: a burst of them is no overload.
            tokio::task::yield_now().await;
            while let Some(stream_id) = self.calls.try_ended() {
                self.forget(stream_id);
            }
        }
        match self.calls.has_room(lane) {
            true => Ok(()),
            false => {
                Err(get_status(Code::RESOURCE_EXHAUSTED, "too many requests in flight on this connection"))
            }
        }
    }

    fn abandon(&mut self) {
        self.gone.send_replace(true);
        self.inlets.clear();
        self.calls.abandon_parked();
    }
}

/// Reads once the answers that wait leave room. Cancel safe.
async fn read_when_room(
    reader: &mut (impl AsyncRead + Unpin),
    outbox: &Outbox,
    chunk: &mut [u8],
) -> io::Result<usize> {
    outbox.room().await;
    reader.read(chunk).await
}

/// How long the caller of a request waits, from its arrival on. Zero and less mean for ever, as in Go.
pub fn patience(timeout_nano: i64) -> Option<Duration> {
    let nanos = u64::try_from(timeout_nano).ok().filter(|nanos| *nanos > 0)?;
    Some(Duration::from_nanos(nanos))
}

fn deadline(request: &Request) -> Option<Instant> {
    Instant::now().checked_add(patience(request.timeout_nano)?)
}

fn context(stream_id: u32, request: &Request) -> TtrpcContext {
    TtrpcContext {
        mh: MessageHeader::new_request(stream_id, request.payload.len() as u32),
        metadata: ttrpc::context::from_pb(&request.metadata),
        timeout_nano: request.timeout_nano,
        ..TtrpcContext::default()
    }
}

/// The answer to what generated code returned. Only undecodable payloads and our own bugs are not a status already.
fn respond(result: ttrpc::Result<Response>) -> Response {
    match result {
        Ok(response) => response,
        Err(Error::RpcStatus(status)) => failed(status),
        // The prefix is ttrpc's, in `async_request_handler!`.
        Err(Error::Others(text)) if text.starts_with("Unpack request error") => {
            failed(get_status(Code::INVALID_ARGUMENT, text))
        }
        Err(other) => failed(get_status(Code::INTERNAL, other)),
    }
}

fn failed(status: Status) -> Response {
    let mut response = Response::new();
    response.set_status(status);
    response
}
