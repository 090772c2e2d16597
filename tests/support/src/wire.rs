//! A connection to the RPC port by hand, for what a client of ttrpc never does: half frames, odd frames, slow reading.
//! Knows frames and requests; never what is in an answer.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;
use vminit_shim::api::ttrpc::proto::{Codec, Request};

use crate::{Daemon, PATIENCE};

/// The bytes in front of a payload: length, stream id, type, flags (ttrpc, PROTOCOL.md).
pub const HEADER_BYTES: usize = 10;

/// Types of frames.
pub const REQUEST: u8 = 1;
pub const RESPONSE: u8 = 2;
pub const DATA: u8 = 3;

/// The flag of a last frame: its sender has closed its half.
pub const REMOTE_CLOSED: u8 = 1;

/// A frame that was received.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub stream_id: u32,
    pub kind: u8,
    pub flags: u8,
    pub payload: Vec<u8>,
}

/// A whole frame.
pub fn frame(stream_id: u32, kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(payload.len() as u32, stream_id, kind, flags);
    bytes.extend(payload);
    bytes
}

/// The beginning of a frame, which may promise what does not come.
pub fn header(length: u32, stream_id: u32, kind: u8, flags: u8) -> Vec<u8> {
    [&length.to_be_bytes()[..], &stream_id.to_be_bytes(), &[kind, flags]].concat()
}

/// The payload of a request, with the message that the method takes.
pub fn request(service: &str, method: &str, message: Vec<u8>) -> Vec<u8> {
    let (service, method) = (service.to_owned(), method.to_owned());
    let request = Request { service, method, payload: message, ..Default::default() };
    request.encode().expect("it encodes")
}

/// A connection that does only what it is told.
pub struct RawConnection(pub UnixStream);

impl RawConnection {
    /// A new one.
    pub async fn open(daemon: &Daemon) -> Self {
        Self(daemon.rpc().connect().await.expect("connect"))
    }

    /// Sends these bytes, which the daemon must take.
    pub async fn send(&mut self, bytes: &[u8]) {
        timeout(PATIENCE, self.0.write_all(bytes)).await.expect("they are taken").expect("send");
    }

    /// The next frame, which must come: stream id, type, payload.
    pub async fn receive(&mut self) -> (u32, u8, Vec<u8>) {
        let Frame { stream_id, kind, payload, .. } = self.receive_frame().await;
        (stream_id, kind, payload)
    }

    /// The same, with its flags.
    pub async fn receive_frame(&mut self) -> Frame {
        timeout(PATIENCE, self.read_frame()).await.expect("a frame in time").expect("a frame")
    }

    async fn read_frame(&mut self) -> io::Result<Frame> {
        let length = self.0.read_u32().await?;
        let stream_id = self.0.read_u32().await?;
        let (kind, flags) = (self.0.read_u8().await?, self.0.read_u8().await?);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).await?;
        Ok(Frame { stream_id, kind, flags, payload })
    }
}
