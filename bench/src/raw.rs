//! ttrpc without a client: requests are encoded once, and frames are written and read with blocking calls, as the echo
//! beside them is, so that what is measured is the guest. Owns the connection; times nothing.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use vminit_shim::api::protobuf::Message;
use vminit_shim::api::ttrpc::proto::{
    Code, Codec, MessageHeader, Request, Response, MESSAGE_HEADER_LENGTH, MESSAGE_TYPE_RESPONSE,
};
use vminit_shim::client::Endpoint;

/// An answer that takes longer is taken for lost.
const ANSWERS: Duration = Duration::from_secs(30);

/// Bytes of one read; every answer that is timed is smaller.
const READ_BYTES: usize = 64 * 1024;

/// Where the stream id stands in a frame (containerd/ttrpc, PROTOCOL.md).
const STREAM_ID: std::ops::Range<usize> = 4..8;

/// A connection over which one request is made again and again.
pub struct Caller {
    socket: UnixStream,
    /// The frame, with the stream id of the last call.
    request: Vec<u8>,
    stream_id: u32,
    chunk: Vec<u8>,
    /// What came after the last frame that was taken.
    unread: Vec<u8>,
}

impl Caller {
    /// Connects, for this request; makes none.
    ///
    /// # Errors
    /// Those of [`Endpoint::connect`].
    pub async fn connect(
        endpoint: &Endpoint,
        service: &str,
        method: &str,
        message: &impl Message,
    ) -> io::Result<Caller> {
        let payload = message.write_to_bytes()?;
        let request =
            Request { service: service.into(), method: method.into(), payload, ..Default::default() };
        let encoded = request.encode().map_err(io::Error::other)?;
        let mut request: Vec<u8> = MessageHeader::new_request(0, encoded.len() as u32).into();
        request.extend_from_slice(&encoded);
        let socket = blocking(endpoint.connect().await?)?;
        // The last odd one, upon which 1 follows.
        let stream_id = u32::MAX;
        Ok(Caller { socket, request, stream_id, chunk: vec![0; READ_BYTES], unread: Vec::new() })
    }

    /// Bytes of the frame that it writes.
    pub fn request_bytes(&self) -> usize {
        self.request.len()
    }

    /// Writes the request.
    pub fn send(&mut self) -> io::Result<()> {
        self.stream_id = self.stream_id.wrapping_add(2);
        self.request[STREAM_ID].copy_from_slice(&self.stream_id.to_be_bytes());
        self.socket.write_all(&self.request)
    }

    /// Waits for the next frame, whatever it is; its payload.
    pub fn receive(&mut self) -> io::Result<(MessageHeader, Vec<u8>)> {
        loop {
            if self.unread.len() >= MESSAGE_HEADER_LENGTH {
                let header = MessageHeader::from(&self.unread);
                let end = MESSAGE_HEADER_LENGTH + header.length as usize;
                if self.unread.len() >= end {
                    let frame: Vec<u8> = self.unread.drain(..end).collect();
                    return Ok((header, frame[MESSAGE_HEADER_LENGTH..].to_owned()));
                }
            }
            match self.socket.read(&mut self.chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.unread.extend_from_slice(&self.chunk[..n]),
            }
        }
    }

    /// Whether that frame is the good answer to the last request.
    ///
    /// # Errors
    /// What it is instead.
    pub fn check(&self, (header, payload): (MessageHeader, Vec<u8>)) -> io::Result<()> {
        let response = Response::decode(&payload).map_err(io::Error::other)?;
        let is_answer = header.type_ == MESSAGE_TYPE_RESPONSE && header.stream_id == self.stream_id;
        if is_answer && response.status().code() == Code::OK {
            Ok(())
        } else {
            Err(io::Error::other(format!("no answer: {header:?} {:?}", response.status())))
        }
    }
}

/// The same connection for a thread that has nothing else to do.
pub fn blocking(socket: tokio::net::UnixStream) -> io::Result<UnixStream> {
    let socket = socket.into_std()?;
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(ANSWERS))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    use tokio::net::UnixListener;

    #[tokio::test]
    async fn every_call_has_the_next_odd_id_and_answers_may_come_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let mut caller = Caller::connect(&Endpoint::Unix(path), "s", "m", &Request::new()).await.unwrap();
        let mut guest = blocking(listener.accept().await.unwrap().0).unwrap();
        let answer = Response::default().encode().unwrap();
        for id in [1u32, 3, 5] {
            caller.send().unwrap();
            let mut request = vec![0; caller.request_bytes()];
            guest.read_exact(&mut request).unwrap();
            assert_eq!(request[STREAM_ID], id.to_be_bytes());
            let header = MessageHeader::new_response(id, answer.len() as u32);
            let frame = [Vec::from(header), answer.clone()].concat();
            guest.write_all(&frame[..7]).unwrap();
            guest.write_all(&frame[7..]).unwrap();
            let frame = caller.receive().unwrap();
            caller.check(frame).unwrap();
        }
    }
}
