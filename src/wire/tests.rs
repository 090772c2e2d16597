//! The harness of the wire's tests: a peer that speaks frames, and a service whose calls the test controls.

mod connection;
mod frames;
mod interop;
mod listening;
mod session;
mod streams;

use std::collections::HashMap;
use std::future::{self, Future};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{watch, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use ttrpc::proto::{Code, Codec, Request, Response, Status};
use ttrpc::r#async::{MethodHandler, Service, TtrpcContext};

use super::frame::{self, Decoder, Frame, Incoming, Kind, HEADER_LEN};
use super::router::StreamCall;
use super::{Farewell, Router, Settings, Stream, StreamMethod};
use crate::sys::socket::Socket;

const SERVICE: &str = "test.Service";
/// What must happen happens within this, on the slowest machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// As they are unless configured.
const SETTINGS: Settings =
    Settings { requests_in_flight: 64, unread_bytes: 8 << 20, farewell: Farewell::HalfClose };

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(DEADLINE, what).await.expect("it happens in time")
}

/// What the calls of the test service did; a permit for each time.
struct Probe {
    begun: Semaphore,
    /// `Slow` waits for a permit.
    gate: Semaphore,
    finished: Semaphore,
    dropped: Semaphore,
    /// Results of stream sends that came back.
    sent: Semaphore,
}

impl Probe {
    fn new() -> Arc<Self> {
        let none = || Semaphore::new(0);
        Arc::new(Self { begun: none(), gate: none(), finished: none(), dropped: none(), sent: none() })
    }
}

/// Waits until `times` permits were given, and takes them.
async fn happened(counter: &Semaphore, times: u32) {
    soon(counter.acquire_many(times)).await.expect("the semaphore stays open").forget();
}

struct DropGuard(Arc<Probe>);

impl Drop for DropGuard {
    fn drop(&mut self) {
        self.0.dropped.add_permits(1);
    }
}

enum Unary {
    Echo,
    Wide,
    Panic,
    Slow(Arc<Probe>),
    Park(Arc<Probe>),
    Broken(ttrpc::Error),
}

#[async_trait]
impl MethodHandler for Unary {
    async fn handler(&self, _ctx: TtrpcContext, request: Request) -> ttrpc::Result<Response> {
        let mut response = Response::new();
        match self {
            Self::Echo => response.payload = request.payload,
            Self::Wide => response.payload = vec![7; 1 << 20],
            Self::Panic => panic!("as the test asked"),
            Self::Slow(probe) => {
                probe.begun.add_permits(1);
                probe.gate.acquire().await.expect("the gate stays").forget();
                probe.finished.add_permits(1);
            }
            Self::Park(probe) => {
                let _guard = DropGuard(probe.clone());
                probe.begun.add_permits(1);
                future::pending::<()>().await;
            }
            Self::Broken(error) => return Err(error.clone()),
        }
        Ok(response)
    }
}

enum Streaming {
    /// Sends as many messages as the request's first byte says, each its own number.
    Count(Arc<Probe>),
    /// Sends back what it gets until the client closes.
    Mirror,
    /// Neither sends nor receives.
    Deaf(Arc<Probe>),
    /// Fails at once.
    Fail,
    Panic,
}

impl StreamMethod for Streaming {
    fn call(&self, _ctx: TtrpcContext, request: Vec<u8>, mut stream: Stream) -> StreamCall {
        match self {
            Self::Count(probe) => {
                let probe = probe.clone();
                Box::pin(async move {
                    for number in 0..request.first().copied().unwrap_or(3) {
                        if stream.send(vec![number]).await.is_err() {
                            break;
                        }
                        probe.sent.add_permits(1);
                    }
                    Ok(())
                })
            }
            Self::Mirror => Box::pin(async move {
                while let Some(message) = stream.recv().await {
                    let _ = stream.send(message).await;
                }
                Ok(())
            }),
            Self::Deaf(probe) => {
                let guard = DropGuard(probe.clone());
                probe.begun.add_permits(1);
                Box::pin(async move {
                    let _held = (guard, stream);
                    future::pending().await
                })
            }
            Self::Fail => Box::pin(async { Err(ttrpc::get_status(Code::NOT_FOUND, "nothing to stream")) }),
            Self::Panic => panic!("as the test asked"),
        }
    }
}

fn router(probe: &Arc<Probe>) -> Arc<Router> {
    let unpack = ttrpc::Error::Others("Unpack request error truncated".to_owned());
    let methods: [(&str, Unary); 7] = [
        ("Echo", Unary::Echo),
        ("Wide", Unary::Wide),
        ("Panic", Unary::Panic),
        ("Slow", Unary::Slow(probe.clone())),
        ("Park", Unary::Park(probe.clone())),
        ("Undecodable", Unary::Broken(unpack)),
        ("Broken", Unary::Broken(ttrpc::Error::Eof)),
    ];
    let methods = methods.map(|(name, unary)| {
        let handler: Box<dyn MethodHandler + Send + Sync> = Box::new(unary);
        (name.to_owned(), handler)
    });
    let service = Service { methods: HashMap::from(methods), streams: HashMap::new() };
    let router = Router::new()
        .unary(SERVICE, service, &["Park"])
        .stream(SERVICE, "Count", Arc::new(Streaming::Count(probe.clone())))
        .stream(SERVICE, "Mirror", Arc::new(Streaming::Mirror))
        .stream(SERVICE, "Deaf", Arc::new(Streaming::Deaf(probe.clone())))
        .stream(SERVICE, "Fail", Arc::new(Streaming::Fail))
        .stream(SERVICE, "PanicStream", Arc::new(Streaming::Panic));
    Arc::new(router)
}

fn request(service: &str, method: &str, payload: &[u8], timeout: Duration) -> Vec<u8> {
    let mut request = Request::new();
    request.service = service.to_owned();
    request.method = method.to_owned();
    request.payload = payload.to_vec();
    request.timeout_nano = timeout.as_nanos() as i64;
    request.encode().expect("a request encodes")
}

/// The frame of a unary call without a deadline.
fn call(stream_id: u32, method: &str, payload: &[u8]) -> Vec<u8> {
    opening(stream_id, method, 0, payload)
}

fn opening(stream_id: u32, method: &str, flags: u8, payload: &[u8]) -> Vec<u8> {
    frame::encode(stream_id, Kind::Request, flags, &request(SERVICE, method, payload, Duration::ZERO))
}

fn timed(stream_id: u32, method: &str, timeout: Duration) -> Vec<u8> {
    frame::encode(stream_id, Kind::Request, 0, &request(SERVICE, method, &[], timeout))
}

fn response_of(frame: &Frame) -> Response {
    assert_eq!(frame.kind, Kind::Response, "stream {}", frame.stream_id);
    Response::decode(&frame.payload).expect("a response decodes")
}

/// No status is OK, as for every protobuf field at its default.
fn status_of(frame: &Frame) -> Status {
    response_of(frame).status.unwrap_or_default()
}

/// The client's end of a served connection.
struct Peer {
    socket: UnixStream,
    decoder: Decoder,
    bytes: Vec<u8>,
    served: JoinHandle<()>,
    stop: watch::Sender<bool>,
    probe: Arc<Probe>,
}

impl Peer {
    fn connect() -> Self {
        let probe = Probe::new();
        let (socket, theirs) = UnixStream::pair().expect("a socket pair");
        let (stop, stopped) = watch::channel(false);
        let served = tokio::spawn(super::serve(Socket::Unix(theirs), router(&probe), SETTINGS, stopped));
        Self { socket, decoder: Decoder::default(), bytes: Vec::new(), served, stop, probe }
    }

    async fn send(&mut self, bytes: &[u8]) {
        soon(self.socket.write_all(bytes)).await.expect("the server reads");
    }

    /// The next frame; `None` when the server has closed.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            let mut input = &self.bytes[..];
            let incoming = self.decoder.decode(&mut input);
            self.bytes = input.to_vec();
            match incoming {
                Some(Incoming::Frame(frame)) => return Some(frame),
                Some(other) => panic!("the server sent {other:?}"),
                None => {}
            }
            let mut chunk = vec![0; 64 << 10];
            match soon(self.socket.read(&mut chunk)).await {
                Ok(0) | Err(_) => return None,
                Ok(length) => self.bytes.extend_from_slice(&chunk[..length]),
            }
        }
    }

    async fn recv(&mut self) -> Frame {
        self.next().await.expect("the connection stays open")
    }

    /// Sends `bytes` and says code and message of the status that comes back for `stream_id`.
    async fn refused(&mut self, bytes: &[u8], stream_id: u32) -> (Code, String) {
        self.send(bytes).await;
        let frame = self.recv().await;
        assert_eq!(frame.stream_id, stream_id);
        let status = status_of(&frame);
        (status.code(), status.message)
    }

    /// The connection still answers calls.
    async fn echoes(&mut self, stream_id: u32) {
        self.send(&call(stream_id, "Echo", b"still here")).await;
        let frame = self.recv().await;
        assert_eq!(frame.stream_id, stream_id);
        assert_eq!(response_of(&frame).payload, b"still here");
    }

    /// Closes the connection and waits until the server has let go of everything.
    async fn leave(self) {
        drop(self.socket);
        soon(self.served).await.expect("serving does not panic");
    }
}
