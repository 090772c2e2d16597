//! The rules of one ttrpc connection as a pure state machine: what each frame of the peer asks for.
//!
//! It never does what it says: no IO, no tasks, no clock. It knows which stream ids are used, which streams are
//! open, and nothing about how busy the connection is.

use std::collections::HashMap;
use std::sync::Arc;

use ttrpc::get_status;
use ttrpc::proto::{Code, Codec, Request, Status};

use super::frame::{self, Frame, Incoming, Kind, FLAG_NO_DATA, FLAG_REMOTE_CLOSED, FLAG_REMOTE_OPEN};
use super::router::{Method, Router, StreamMethod, Unary};

/// What a host reads back as the sign of readiness: it pings with stream id 0.
const EVEN_ID: &str = "StreamID must be odd for client initiated streams";
const USED_ID: &str = "StreamID cannot be re-used and must increment";
const INACTIVE_ID: &str = "StreamID is no longer active";

/// What is to be done about a frame.
pub enum Step {
    /// Nothing. An answer is never answered, and unknown frame types are left to later versions of the protocol.
    Ignore,
    /// Send `status` on that stream.
    Answer { stream_id: u32, status: Status },
    /// Run a unary method.
    Call { stream_id: u32, unary: Unary, request: Request },
    /// Run a streaming method. [`Session::ended`] must be told when it is over, or was not begun.
    Open(Opening),
    /// Hand `message` to the stream; after it, if `last`, the client's half is closed.
    Data { stream_id: u32, message: Option<Vec<u8>>, last: bool },
    /// The client broke the stream's rules: stop its handler and answer `status`. The session has forgotten it.
    Abort { stream_id: u32, status: Status },
}

/// A call of a streaming method.
pub struct Opening {
    pub stream_id: u32,
    pub method: Arc<dyn StreamMethod>,
    /// The call; its payload is the request of a server-streaming method, and empty if the client keeps sending.
    pub request: Request,
    /// The client's first message, if it came in the opening frame of a stream it keeps open.
    pub first: Option<Vec<u8>>,
    /// Whether the client may send more.
    pub client_open: bool,
}

/// One connection's view of its streams.
pub struct Session {
    router: Arc<Router>,
    /// The highest stream id the client has used; 0 before the first.
    last_id: u32,
    /// The streams whose handlers run, and whether the client may still send on them.
    client_open: HashMap<u32, bool>,
}

impl Session {
    /// The state of a fresh connection.
    pub fn new(router: Arc<Router>) -> Self {
        Self { router, last_id: 0, client_open: HashMap::new() }
    }

    /// What `incoming` asks for. Total: every frame has an answer, none is an error of the connection.
    pub fn step(&mut self, incoming: Incoming) -> Step {
        let (stream_id, kind) = match &incoming {
            Incoming::Frame(frame) => (frame.stream_id, frame.kind),
            Incoming::Oversized { stream_id, kind, .. } => (*stream_id, *kind),
        };
        if kind == Kind::Response {
            return Step::Ignore;
        }
        if stream_id % 2 == 0 {
            return invalid(stream_id, EVEN_ID);
        }
        if kind == Kind::Data && self.has_its_answer(stream_id) {
            return Step::Ignore;
        }
        match (incoming, kind) {
            (Incoming::Oversized { length, .. }, Kind::Request | Kind::Data) => {
                self.oversized(stream_id, kind, length)
            }
            (Incoming::Frame(frame), Kind::Request) => self.request(frame),
            (Incoming::Frame(frame), Kind::Data) => self.data(frame),
            _ => Step::Ignore,
        }
    }

    /// The handler of a stream is over, or was never begun. Unknown ids are fine.
    pub fn ended(&mut self, stream_id: u32) {
        self.client_open.remove(&stream_id);
    }

    fn oversized(&mut self, stream_id: u32, kind: Kind, length: u32) -> Step {
        if kind == Kind::Request && !self.use_id(stream_id) {
            return invalid(stream_id, USED_ID);
        }
        let status = frame::too_large(length as usize);
        // A message of an open stream is lost; to go on would hide the gap.
        match self.client_open.remove(&stream_id) {
            Some(_) => Step::Abort { stream_id, status },
            None => Step::Answer { stream_id, status },
        }
    }

    fn request(&mut self, frame: Frame) -> Step {
        let Frame { stream_id, flags, payload, .. } = frame;
        if !self.use_id(stream_id) {
            return invalid(stream_id, USED_ID);
        }
        let request = match Request::decode(&payload) {
            Ok(request) => request,
            Err(e) => return invalid(stream_id, format!("unmarshal request: {e}")),
        };
        match self.router.find(&request.service, &request.method) {
            Ok(Method::Unary(unary)) => Step::Call { stream_id, unary: unary.clone(), request },
            Ok(Method::Stream(method)) => {
                let method = method.clone();
                Step::Open(self.open(stream_id, flags, method, request))
            }
            Err(unknown) => Step::Answer { stream_id, status: get_status(Code::UNIMPLEMENTED, unknown) },
        }
    }

    fn open(
        &mut self,
        stream_id: u32,
        flags: u8,
        method: Arc<dyn StreamMethod>,
        mut request: Request,
    ) -> Opening {
        let client_open = flags & FLAG_REMOTE_OPEN != 0 && flags & FLAG_REMOTE_CLOSED == 0;
        self.client_open.insert(stream_id, client_open);
        // Go opens a stream with an empty payload and without NO_DATA (containerd/ttrpc-rust#221): that is no message.
        let first = client_open
            .then(|| std::mem::take(&mut request.payload))
            .filter(|payload| !payload.is_empty() && flags & FLAG_NO_DATA == 0);
        Opening { stream_id, method, request, first, client_open }
    }

    fn data(&mut self, frame: Frame) -> Step {
        let Frame { stream_id, flags, payload, .. } = frame;
        let last = flags & FLAG_REMOTE_CLOSED != 0;
        // An empty payload is a message (containerd/ttrpc-rust#208) unless the frame says that it carries none.
        let message = (flags & FLAG_NO_DATA == 0).then_some(payload);
        match self.client_open.get_mut(&stream_id) {
            Some(open @ true) => {
                *open = !last;
                Step::Data { stream_id, message, last }
            }
            Some(false) if message.is_none() => Step::Ignore,
            Some(false) => {
                self.client_open.remove(&stream_id);
                Step::Abort { stream_id, status: get_status(Code::INVALID_ARGUMENT, INACTIVE_ID) }
            }
            None => invalid(stream_id, INACTIVE_ID),
        }
    }

    /// Whether the id was used and is no open stream's. It is answered once, by the end of its call; a grant or a close of
    /// the client may cross that end, and Go's client complains of whatever comes after it.
    fn has_its_answer(&self, stream_id: u32) -> bool {
        stream_id <= self.last_id && !self.client_open.contains_key(&stream_id)
    }

    /// Marks a client's stream id as used; false if it, or a later one, already was.
    fn use_id(&mut self, stream_id: u32) -> bool {
        let fresh = stream_id > self.last_id;
        self.last_id = self.last_id.max(stream_id);
        fresh
    }
}

fn invalid(stream_id: u32, message: impl ToString) -> Step {
    Step::Answer { stream_id, status: get_status(Code::INVALID_ARGUMENT, message) }
}
