//! Where a guest's port is reached: a Unix socket, a port behind a hybrid-vsock socket, or one on the host's own vsock.
//! Owns that handshake and knows nothing of what is spoken afterwards.

use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{connect, socket, SockFlag, SockType, SockaddrLike, VsockAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// The longest line the backend can answer with: "OK 4294967295\n" is 14 bytes.
const ANSWER_MAX: usize = 32;

/// Between two tries while the backlog of a listener is full; it is emptied in far less.
const BACKLOG_PAUSE: Duration = Duration::from_millis(1);

/// One port of a guest, as the host reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A vminitd that runs as an ordinary process and listens here.
    Unix(PathBuf),
    /// A vsock port of a microVM behind the socket of vhost-device-vsock, Firecracker or Cloud Hypervisor.
    HybridVsock { uds: PathBuf, port: u32 },
    /// A vsock port of a microVM that has this address on the host's own vsock.
    Vsock { cid: u32, port: u32 },
}

impl Endpoint {
    /// Makes one connection. Waits for as long as the backend takes to answer; the caller sets the bound.
    ///
    /// # Errors
    /// `NotFound`, `ConnectionRefused`, `ConnectionReset` or `BrokenPipe` while nobody listens yet: try again; on the
    /// host's own vsock also what connect(2) has for a machine that is not up.
    /// `InvalidData` if what answered is not a hybrid-vsock backend.
    pub async fn connect(&self) -> io::Result<UnixStream> {
        match self {
            Endpoint::Unix(path) => connect_unix(path).await,
            Endpoint::Vsock { cid, port } => connect_stream(&VsockAddr::new(*cid, *port)).await,
            Endpoint::HybridVsock { uds, port } => {
                let mut stream = connect_unix(uds).await?;
                // One write: the backend drops a connection whose first line comes in pieces. What follows it
                // before the answer would be lost, so nothing does.
                stream.write_all(format!("CONNECT {port}\n").as_bytes()).await?;
                let line = answer(&mut stream).await?;
                if !line.starts_with(b"OK ") {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "no OK from the vsock backend"));
                }
                Ok(stream)
            }
        }
    }
}

/// Where a blocking socket would wait for room in the listener's backlog, a non-blocking one gets EAGAIN (unix(7)).
async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(BACKLOG_PAUSE).await
            }
            other => return other,
        }
    }
}

/// Connects to an address of any family, and gives the socket as a Unix one, which is what the rest of this crate and
/// ttrpc take. Stream sockets are all read, written, shut down and closed alike; the address of a peer, which would not
/// be one of unix(7), is asked for by nobody here.
async fn connect_stream(address: &impl SockaddrLike) -> io::Result<UnixStream> {
    let family = address.family().ok_or(io::ErrorKind::InvalidInput)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Stream, flags, None)?;
    let begun = connect(socket.as_raw_fd(), address);
    let stream = UnixStream::from_std(socket.into())?;
    match begun {
        Ok(()) => Ok(stream),
        // Writable means connected, or failed (connect(2), EINPROGRESS).
        Err(Errno::EINPROGRESS) => {
            stream.writable().await?;
            stream.take_error()?.map_or(Ok(stream), Err)
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Reads up to the newline and not a byte further: what follows is the guest's.
async fn answer(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::with_capacity(ANSWER_MAX);
    while line.len() < ANSWER_MAX {
        match stream.read_u8().await {
            Ok(b'\n') => return Ok(line),
            Ok(byte) => line.push(byte),
            // The backend hangs up when nobody in the guest listens on the port.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "nothing listens in the guest"));
            }
            Err(e) => return Err(e),
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "the vsock backend's answer has no end"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    async fn backend_says(answer: &'static [u8]) -> (io::Result<UnixStream>, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let uds = dir.path().join("v");
        let listener = UnixListener::bind(&uds).unwrap();
        let backend = async {
            let (mut peer, _) = listener.accept().await.unwrap();
            let mut seen = vec![0; 64];
            let n = peer.read(&mut seen).await.unwrap();
            seen.truncate(n);
            peer.write_all(answer).await.unwrap();
            seen
        };
        let endpoint = Endpoint::HybridVsock { uds, port: 1024 };
        tokio::join!(endpoint.connect(), backend)
    }

    #[tokio::test]
    async fn the_connect_line_comes_in_one_write_and_the_guests_bytes_are_left_unread() {
        let (stream, seen) = backend_says(b"OK 7\nhello").await;
        assert_eq!(seen, b"CONNECT 1024\n");
        let mut rest = String::new();
        stream.unwrap().read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "hello");
    }

    #[tokio::test]
    async fn a_socket_that_was_connected_by_its_number_reads_writes_and_ends_as_any() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let address = nix::sys::socket::UnixAddr::new(&path).unwrap();
        assert_eq!(connect_stream(&address).await.unwrap_err().kind(), io::ErrorKind::NotFound);
        let listener = UnixListener::bind(&path).unwrap();
        let mut stream = connect_stream(&address).await.unwrap();
        let (mut peer, _) = listener.accept().await.unwrap();
        peer.write_all(b"hello").await.unwrap();
        peer.shutdown().await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "hello");
        stream.write_all(b"bye").await.unwrap();
        stream.shutdown().await.unwrap();
        peer.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "hellobye");
    }

    #[tokio::test]
    async fn a_hangup_before_ok_means_nobody_listens_yet() {
        let (stream, _) = backend_says(b"").await;
        assert_eq!(stream.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn an_answer_that_is_not_ok_or_has_no_end_is_refused() {
        for answer in [b"HTTP/1.1 400\n".as_slice(), &[b'O'; 64]] {
            let (stream, _) = backend_says(answer).await;
            assert_eq!(stream.unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
