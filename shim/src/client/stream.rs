//! Stdio streams: connections to the stream port that carry raw bytes of one direction. Owns their handshake and their
//! names; never interprets what they carry.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::Endpoint;

/// The stream port of a guest.
#[derive(Debug, Clone)]
pub struct Streams {
    pub endpoint: Endpoint,
}

impl Streams {
    /// Opens the stream `id`, which must be unused: writes the id as u32 big endian and reads it back.
    ///
    /// # Errors
    /// Those of [`Endpoint::connect`]; `UnexpectedEof` if the guest refuses the id; `InvalidData` if it names another.
    pub async fn open(&self, id: u32) -> io::Result<UnixStream> {
        let mut stream = self.endpoint.connect().await?;
        stream.write_all(&id.to_be_bytes()).await?;
        let echo = stream.read_u32().await?;
        if echo != id {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the guest named another stream"));
        }
        Ok(stream)
    }

    /// The name by which a request refers to the stream `id`.
    pub fn uri(id: u32) -> String {
        format!("stream://{id}")
    }
}

/// The host's end of one open stream.
#[derive(Debug)]
pub struct Stream {
    pub uri: String,
    pub socket: UnixStream,
}

/// The host's ends of one process's stdio. Dropping `stdin` is its end of file.
#[derive(Debug, Default)]
pub struct Stdio {
    pub stdin: Option<Stream>,
    pub stdout: Option<Stream>,
    pub stderr: Option<Stream>,
}

impl Stdio {
    /// The names for the request, in the order stdin, stdout, stderr; empty for what is absent.
    pub fn uris(&self) -> [String; 3] {
        [&self.stdin, &self.stdout, &self.stderr]
            .map(|end| end.as_ref().map(|stream| stream.uri.clone()).unwrap_or_default())
    }

    /// Begins to read both outputs to their ends, in the background; stdin is closed.
    pub fn collect(self) -> Output {
        Output { stdout: tokio::spawn(read_all(self.stdout)), stderr: tokio::spawn(read_all(self.stderr)) }
    }
}

/// Output that is being collected. Over vsock it may end no earlier than Task.Delete.
pub struct Output {
    stdout: JoinHandle<io::Result<Vec<u8>>>,
    stderr: JoinHandle<io::Result<Vec<u8>>>,
}

impl Output {
    /// Waits for both ends of file; gives stdout and stderr.
    ///
    /// # Errors
    /// That of the stream that broke.
    pub async fn finish(self) -> io::Result<(Vec<u8>, Vec<u8>)> {
        Ok((self.stdout.await??, self.stderr.await??))
    }
}

async fn read_all(stream: Option<Stream>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        stream.socket.read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    async fn guest_echoes(echo: &'static [u8]) -> (io::Result<UnixStream>, [u8; 4]) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let guest = async {
            let (mut peer, _) = listener.accept().await.unwrap();
            let mut seen = [0; 4];
            peer.read_exact(&mut seen).await.unwrap();
            peer.write_all(echo).await.unwrap();
            seen
        };
        let streams = Streams { endpoint: Endpoint::Unix(path) };
        tokio::join!(streams.open(0x0102), guest)
    }

    #[tokio::test]
    async fn a_stream_is_open_once_its_id_came_back() {
        let (stream, seen) = guest_echoes(&[0, 0, 1, 2]).await;
        assert!(stream.is_ok());
        assert_eq!(seen, [0, 0, 1, 2]);
    }

    #[tokio::test]
    async fn a_refused_or_misnamed_stream_is_an_error() {
        for (echo, kind) in
            [(&[][..], io::ErrorKind::UnexpectedEof), (&[0, 0, 0, 9], io::ErrorKind::InvalidData)]
        {
            assert_eq!(guest_echoes(echo).await.0.unwrap_err().kind(), kind);
        }
    }
}
