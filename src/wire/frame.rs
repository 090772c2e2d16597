//! ttrpc frames: bytes to frames and frames to bytes. No IO, no clock, no knowledge of streams.
//!
//! A frame is a header of ten bytes (length, stream id, kind, flags; big endian) and a payload
//! (containerd/ttrpc, PROTOCOL.md). Payloads beyond [`MAX_PAYLOAD`] are skipped as they arrive and never buffered.

use std::mem;

use ttrpc::proto::{
    Code, Codec, MessageHeader, Response, Status, MESSAGE_TYPE_DATA, MESSAGE_TYPE_REQUEST,
    MESSAGE_TYPE_RESPONSE,
};

/// Bytes of a frame's header.
pub const HEADER_LEN: usize = ttrpc::proto::MESSAGE_HEADER_LENGTH;
/// The largest payload either side may send, in bytes: 4 MiB, as in every ttrpc implementation.
pub const MAX_PAYLOAD: usize = ttrpc::proto::MESSAGE_LENGTH_MAX;

pub use ttrpc::proto::{FLAG_NO_DATA, FLAG_REMOTE_CLOSED, FLAG_REMOTE_OPEN};

/// What a frame is, from the type byte of its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Request,
    Response,
    Data,
    /// A type this version of the protocol does not have.
    Unknown(u8),
}

/// One whole frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub stream_id: u32,
    pub kind: Kind,
    pub flags: u8,
    pub payload: Vec<u8>,
}

/// What a peer sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    Frame(Frame),
    /// A header that announces more than [`MAX_PAYLOAD`]; told as soon as the header is there.
    Oversized {
        stream_id: u32,
        kind: Kind,
        length: u32,
    },
}

/// Cuts a byte stream into frames. Holds at most one payload, and of that only what has arrived.
#[derive(Debug, Default)]
pub struct Decoder {
    expect: Expect,
    buffer: Vec<u8>,
}

#[derive(Debug, Default)]
enum Expect {
    #[default]
    Header,
    Payload(MessageHeader),
    /// So many bytes still to be thrown away.
    Skip(usize),
}

impl Decoder {
    /// Takes from `input` what the next frame needs. `None` means that `input` is used up.
    pub fn decode(&mut self, input: &mut &[u8]) -> Option<Incoming> {
        loop {
            match self.expect {
                Expect::Header => {
                    if !self.fill(input, HEADER_LEN) {
                        return None;
                    }
                    let header = MessageHeader::from(&self.buffer);
                    self.buffer.clear();
                    if header.length as usize > MAX_PAYLOAD {
                        self.expect = Expect::Skip(header.length as usize);
                        return Some(oversized(header));
                    }
                    self.expect = Expect::Payload(header);
                }
                Expect::Payload(header) => {
                    if !self.fill(input, header.length as usize) {
                        return None;
                    }
                    self.expect = Expect::Header;
                    return Some(whole(header, mem::take(&mut self.buffer)));
                }
                Expect::Skip(left) => {
                    let skipped = left.min(input.len());
                    *input = &input[skipped..];
                    if skipped < left {
                        self.expect = Expect::Skip(left - skipped);
                        return None;
                    }
                    self.expect = Expect::Header;
                }
            }
        }
    }

    /// Bytes held for a frame that is not whole yet.
    #[cfg(test)]
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Moves bytes from `input` until `want` are buffered; says whether they are.
    fn fill(&mut self, input: &mut &[u8], want: usize) -> bool {
        let taken = (want - self.buffer.len()).min(input.len());
        let (now, later) = input.split_at(taken);
        self.buffer.extend_from_slice(now);
        *input = later;
        self.buffer.len() == want
    }
}

/// The bytes of a frame, header and payload in one piece so that one write can carry it.
///
/// `payload` must not exceed [`MAX_PAYLOAD`]; callers check it where they can still answer something else.
pub fn encode(stream_id: u32, kind: Kind, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_LEN + payload.len());
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    bytes.extend_from_slice(&stream_id.to_be_bytes());
    bytes.push(kind.to_wire());
    bytes.push(flags);
    bytes.extend_from_slice(payload);
    bytes
}

/// The frame that answers a call, or that ends a stream with an error.
///
/// A response too large for a frame becomes the status `RESOURCE_EXHAUSTED`: the caller must hear something.
pub fn response(stream_id: u32, response: &Response) -> Vec<u8> {
    let payload = match response.encode() {
        Ok(payload) if payload.len() <= MAX_PAYLOAD => payload,
        Ok(payload) => return status(stream_id, too_large(payload.len())),
        Err(e) => {
            return status(stream_id, ttrpc::get_status(Code::INTERNAL, format!("encode response: {e}")))
        }
    };
    encode(stream_id, Kind::Response, 0, &payload)
}

/// The frame that answers with nothing but a status.
pub fn status(stream_id: u32, status: Status) -> Vec<u8> {
    let mut answer = Response::new();
    answer.set_status(status);
    response(stream_id, &answer)
}

/// The frame that ends a stream well.
pub fn close(stream_id: u32) -> Vec<u8> {
    encode(stream_id, Kind::Data, FLAG_REMOTE_CLOSED | FLAG_NO_DATA, &[])
}

/// What to say about a payload of `length` bytes that no frame can carry.
pub fn too_large(length: usize) -> Status {
    ttrpc::get_status(
        Code::RESOURCE_EXHAUSTED,
        format!("message length {length} exceeds maximum message size of {MAX_PAYLOAD}"),
    )
}

impl Kind {
    fn from_wire(byte: u8) -> Self {
        match byte {
            MESSAGE_TYPE_REQUEST => Self::Request,
            MESSAGE_TYPE_RESPONSE => Self::Response,
            MESSAGE_TYPE_DATA => Self::Data,
            other => Self::Unknown(other),
        }
    }

    fn to_wire(self) -> u8 {
        match self {
            Self::Request => MESSAGE_TYPE_REQUEST,
            Self::Response => MESSAGE_TYPE_RESPONSE,
            Self::Data => MESSAGE_TYPE_DATA,
            Self::Unknown(other) => other,
        }
    }
}

fn whole(header: MessageHeader, payload: Vec<u8>) -> Incoming {
    let kind = Kind::from_wire(header.type_);
    Incoming::Frame(Frame { stream_id: header.stream_id, kind, flags: header.flags, payload })
}

fn oversized(header: MessageHeader) -> Incoming {
    let kind = Kind::from_wire(header.type_);
    Incoming::Oversized { stream_id: header.stream_id, kind, length: header.length }
}
