//! Stream sockets of two families, Unix and vsock, behind one type; and their listeners.
//!
//! It never decides who may connect.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    bind, getpeername, listen, recv, send, shutdown, socket, AddressFamily, Backlog, MsgFlags, Shutdown,
    SockFlag, SockType, UnixAddr,
};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio_vsock::{VsockAddr, VsockListener, VMADDR_CID_ANY};

/// A connected stream socket. Shutting it down closes the sending half only.
#[derive(Debug)]
pub enum Socket {
    Unix(UnixStream),
    /// Stream sockets of all families are read, written, shut down and closed alike; tokio's own spares the read that
    /// finds nothing after one that left room.
    Vsock(UnixStream),
}

/// A listening stream socket.
#[derive(Debug)]
pub enum Listener {
    Unix(UnixListener),
    Vsock(VsockListener),
}

/// Pause between two shutdowns of a connection that is to drain. Measured: end of file 20 to 60 ms after the last byte.
const DRAIN_REPEAT: Duration = Duration::from_millis(20);

/// After so many shutdowns, which is 5 s, the reader is a slow one: the pauses double up to [`DRAIN_REPEAT_MAX`], so that
/// one that never reads costs next to nothing.
const DRAIN_QUICK: u32 = 250;

/// The end of file comes within half a second of the last byte all the same.
const DRAIN_REPEAT_MAX: Duration = Duration::from_millis(500);

impl Socket {
    /// The context id of a vsock peer; `None` for a Unix socket. A vsock whose peer cannot be told any more gives
    /// `VMADDR_CID_ANY`, which no peer has.
    pub fn peer_cid(&self) -> Option<u32> {
        match self {
            Self::Unix(_) => None,
            Self::Vsock(stream) => {
                let peer = getpeername::<VsockAddr>(std::os::fd::AsRawFd::as_raw_fd(stream));
                Some(peer.map_or(VMADDR_CID_ANY, |peer| peer.cid()))
            }
        }
    }

    /// Writes all of it without waiting: for a few bytes on a connection to which little was written before.
    ///
    /// # Errors
    /// Those of write(2); `WriteZero` if there was no room for all.
    pub fn write_at_once(&self, bytes: &[u8]) -> io::Result<()> {
        let written = if bytes.is_empty() { 0 } else { nix::unistd::write(self, bytes)? };
        if written == bytes.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }

    /// Whether the peer has gone and has left nothing to read: both directions are closed, and empty. Does not block.
    pub fn peer_has_gone(&self) -> bool {
        peer_has_gone(self.as_fd())
    }

    /// Watches for the peer to go. Must be called within a runtime.
    ///
    /// # Errors
    /// Those of dup(2) and epoll_ctl(2).
    pub fn watch_peer(&self) -> io::Result<PeerWatch> {
        let own = self.as_fd().try_clone_to_owned()?;
        // SAFETY: the descriptor is owned by the `AsyncFd`, stays open as long as it, and is never replaced.
        let watched =
            unsafe { AsyncFd::register_with_interest(own, Interest::READABLE | Interest::WRITABLE) };
        Ok(PeerWatch(watched?))
    }

    /// Shuts both directions down, again and again until the peer has taken everything and is gone: vhost-device-vsock
    /// hides a half-close, and looks whether its buffer is empty only when it is told of a shutdown. It has no end of its
    /// own: a reader may take its time. Cancel safe.
    ///
    /// # Errors
    /// Those of shutdown(2).
    pub async fn drain(&self) -> io::Result<()> {
        let mut pause = DRAIN_REPEAT;
        for asked in 1.. {
            if self.shut_and_gone()? {
                break;
            }
            tokio::time::sleep(pause).await;
            if asked >= DRAIN_QUICK {
                pause = (pause * 2).min(DRAIN_REPEAT_MAX);
            }
        }
        Ok(())
    }

    /// Shuts both directions down, and says whether the connection has come to its end: the peer has taken everything
    /// and is gone. Does not block.
    ///
    /// # Errors
    /// Those of shutdown(2).
    fn shut_and_gone(&self) -> io::Result<bool> {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&self.as_fd());
        match shutdown(fd, Shutdown::Both) {
            Ok(()) => {}
            Err(Errno::ENOTCONN) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
        // `shutdown` sets the sender's side only; that the peer is done shows when a read is no longer an end of file.
        Ok(recv(fd, &mut [0; 1], MsgFlags::MSG_DONTWAIT) == Err(Errno::ENOTCONN))
    }
}

/// Sees the peer of a socket go, while the socket itself is somebody else's. It has a descriptor of its own, without
/// which one that watches would take events from one that reads; until it is dropped the connection stays open.
pub struct PeerWatch(AsyncFd<OwnedFd>);

impl PeerWatch {
    /// Waits until the peer has gone and has left nothing to read: for ever if it has left something. Cancel safe.
    pub async fn gone(&self) {
        // A socket to which little is written is writable, so every event of it shows here, a half-close too.
        while let Ok(mut event) = self.0.writable().await {
            if peer_has_gone(self.0.as_fd()) {
                return;
            }
            if event.ready().is_write_closed() {
                break;
            }
            event.clear_ready();
        }
        std::future::pending().await
    }
}

/// A vsock has no EPOLLHUP for it, so it is told by what calls that move nothing say.
fn peer_has_gone(fd: BorrowedFd<'_>) -> bool {
    let fd = std::os::fd::AsRawFd::as_raw_fd(&fd);
    let is_gone = |error| error != Errno::EAGAIN;
    // Of no bytes, but it fails like any other once the peer reads no more.
    send(fd, &[], MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL).is_err_and(is_gone)
        && recv(fd, &mut [0; 1], MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK).map_or_else(is_gone, |n| n == 0)
}

impl Listener {
    /// Listens on a Unix socket that only its owner may connect to. A socket file left at `path` is replaced; any
    /// other file is not. Must be called within a runtime.
    ///
    /// # Errors
    /// Those of socket(2), bind(2) and chmod(2).
    pub fn bind_unix(path: &Path) -> io::Result<Self> {
        if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
            fs::remove_file(path)?;
        }
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        let address = UnixAddr::new(path)?;
        bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &address)?;
        // Nobody can connect before listen(2), so nobody gets in on the mode that the umask left.
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        listen(&fd, Backlog::MAXCONN)?;
        Ok(Self::Unix(UnixListener::from_std(fd.into())?))
    }

    /// Listens on a vsock port, on every context id this machine has. Must be called within a runtime.
    ///
    /// # Errors
    /// Those of socket(2) and bind(2); `EAFNOSUPPORT` where the kernel has no vsock.
    pub fn bind_vsock(port: u32) -> io::Result<Self> {
        Ok(Self::Vsock(VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, port))?))
    }

    /// The next connection. Cancel safe.
    ///
    /// # Errors
    /// Those of accept(2), which are not errors of the listener.
    pub async fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Socket::Unix(stream)),
            Self::Vsock(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok(Socket::Vsock(UnixStream::from_std(OwnedFd::from(stream).into())?))
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Vsock(stream) => stream.as_fd(),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Vsock(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Vsock(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Vsock(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Vsock(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
