//! Pseudo-terminals (pty(7)) as the holder of the master sees them: bytes, window size, hang-up; and their way here
//! through a socket. No policy.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{ready, Context, Poll};

use nix::fcntl::{fcntl, FcntlArg, FdFlag, OFlag};
use nix::sys::socket::{recvmsg, ControlMessageOwned, MsgFlags};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Descriptors that one message can carry at most (`SCM_MAX_FD` of unix(7)).
const DESCRIPTORS_MAX: usize = 253;

/// Both sides of a pseudo-terminal.
#[derive(Debug)]
pub struct Pty {
    pub master: Master,
    pub slave: Slave,
}

/// The side on which a terminal emulator would be; a handle. One clone at a time may read, and one may write.
#[derive(Debug, Clone)]
pub struct Master(Arc<AsyncFd<OwnedFd>>);

/// The side of the processes, held open so that there is no hang-up.
///
/// The kernel tells the master of a hang-up (`EIO`, `EPOLLHUP`) whenever nobody has the slave open: also before the
/// process has opened it, and while a program such as getty closes it to open it again.
#[derive(Debug)]
pub struct Slave {
    _fd: OwnedFd,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSize {
    pub columns: u16,
    pub rows: u16,
}

impl Pty {
    /// Takes over a master and opens its slave. Must be called within a runtime.
    ///
    /// # Errors
    /// `ENOTTY` if it is no master of a pseudo-terminal; those of ioctl(2) and fcntl(2).
    pub fn of(master: OwnedFd) -> io::Result<Pty> {
        let slave = open_slave(master.as_fd())?;
        fcntl(&master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        let flags = OFlag::from_bits_retain(fcntl(&master, FcntlArg::F_GETFL)?);
        fcntl(&master, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        // SAFETY: it owns the descriptor, and nothing else closes it.
        let master = unsafe { AsyncFd::register(master) }.map_err(|error| error.into_parts().1)?;
        Ok(Pty { master: Master(Arc::new(master)), slave })
    }
}

/// Through the master, since the path of the slave is one of the container's file system (`TIOCGPTPEER`, Linux 4.13).
fn open_slave(master: BorrowedFd<'_>) -> io::Result<Slave> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the request takes flags by value, and the descriptor is open.
    let fd = unsafe { ioctl::open_slave(master.as_raw_fd(), flags) }?;
    // SAFETY: the kernel has just opened this descriptor for us, and nobody else knows of it.
    Ok(Slave { _fd: unsafe { OwnedFd::from_raw_fd(fd) } })
}

impl Master {
    /// Sets the size of the terminal. If that changes it, its foreground processes get SIGWINCH.
    pub fn resize(&self, size: WindowSize) -> io::Result<()> {
        let size = libc::winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the kernel only reads the struct, which is its own `struct winsize`.
        unsafe { ioctl::set_window_size(self.0.as_raw_fd(), &size) }?;
        Ok(())
    }
}

/// The ioctls of ioctl_tty(2) that are used here.
mod ioctl {
    nix::ioctl_write_ptr_bad!(set_window_size, libc::TIOCSWINSZ, libc::winsize);
    nix::ioctl_write_int_bad!(open_slave, libc::TIOCGPTPEER);
}

impl AsyncRead for Master {
    /// Takes all that is there, up to the room in `buf`. Ends when the slave is open nowhere any more; what was written
    /// before that is read first.
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(cx))?;
            match ready.try_io(|fd| Ok(read_what_is_there(fd.as_fd(), buf.initialize_unfilled())?)) {
                Ok(Ok(n)) => {
                    buf.advance(n);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

/// One read(2) of a terminal gives at most 4 KiB, however much there is.
fn read_what_is_there(fd: BorrowedFd<'_>, block: &mut [u8]) -> nix::Result<usize> {
    let mut filled = 0;
    while filled < block.len() {
        match nix::unistd::read(fd, &mut block[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if filled == 0 => return Err(error),
            // It comes again with the next read.
            Err(_) => break,
        }
    }
    Ok(filled)
}

impl AsyncWrite for Master {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(cx))?;
            if let Ok(written) = ready.try_io(|fd| Ok(nix::unistd::write(fd, buf)?)) {
                return Poll::Ready(written);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Nothing: a terminal has no end of input, see termios(3) on VEOF.
    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Takes the one descriptor that the next message on a Unix socket carries; it is close-on-exec.
///
/// # Errors
/// `WouldBlock` if there is no message yet and the socket is non-blocking; `UnexpectedEof` if there will be none;
/// `InvalidData` if it carries no descriptor, or several; those of recvmsg(2).
pub fn receive_descriptor(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut byte = [0; 1];
    let mut iov = [IoSliceMut::new(&mut byte)];
    // With room for all that can come none is lost in it.
    let mut space = nix::cmsg_space!([RawFd; DESCRIPTORS_MAX]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut iov, Some(&mut space), flags)?;
    let mut received = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = part {
            // SAFETY: the kernel has just installed these descriptors for us, and nobody else knows of them.
            received.extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    match (received.pop(), received.is_empty()) {
        (Some(fd), true) => Ok(fd),
        (None, _) if message.bytes == 0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "a message without exactly one descriptor")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use nix::pty::openpty;
    use nix::sys::socket::{sendmsg, ControlMessage};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;

    /// A pair and one more slave, as a process would have it; without the cooking of output.
    fn pair() -> (Pty, OwnedFd) {
        let opened = openpty(None, None).unwrap();
        let mut termios = nix::sys::termios::tcgetattr(&opened.slave).unwrap();
        nix::sys::termios::cfmakeraw(&mut termios);
        nix::sys::termios::tcsetattr(&opened.slave, nix::sys::termios::SetArg::TCSANOW, &termios).unwrap();
        (Pty::of(opened.master).unwrap(), opened.slave)
    }

    #[tokio::test]
    async fn there_is_no_hang_up_while_the_slave_is_held() {
        let (Pty { mut master, slave }, process) = pair();
        nix::unistd::write(&process, b"last words").unwrap();
        drop(process);
        let mut block = [0; 100];
        assert_eq!(master.read(&mut block).await.unwrap(), 10);
        let waiting = timeout(Duration::from_millis(50), master.read(&mut block)).await;
        assert!(waiting.is_err(), "a hang-up while the slave is open: {waiting:?}");
        drop(slave);
        assert_eq!(master.read(&mut block).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn what_was_written_before_the_hang_up_is_read_first() {
        let (Pty { mut master, slave }, process) = pair();
        let text = vec![b'x'; 3_000];
        assert_eq!(nix::unistd::write(&process, &text).unwrap(), text.len());
        drop((process, slave));
        let mut all = Vec::new();
        master.read_to_end(&mut all).await.unwrap();
        assert_eq!(all.len(), text.len());
    }

    #[tokio::test]
    async fn a_writer_goes_on_when_a_reader_makes_room() {
        let (Pty { mut master, slave: _slave }, process) = pair();
        let text = vec![b'y'; 1 << 20];
        let reader = tokio::task::spawn_blocking(move || {
            let (mut left, mut block) = (1 << 20, [0; 3_000]);
            while left > 0 {
                left -= nix::unistd::read(&process, &mut block).unwrap();
            }
        });
        timeout(Duration::from_secs(20), master.write_all(&text)).await.unwrap().unwrap();
        reader.await.unwrap();
    }

    #[tokio::test]
    async fn the_size_is_that_of_the_slave() {
        let (pty, process) = pair();
        pty.master.resize(WindowSize { columns: 132, rows: 43 }).unwrap();
        let size = size_of_slave(&process);
        assert_eq!((size.ws_col, size.ws_row), (132, 43));
    }

    fn size_of_slave(fd: &OwnedFd) -> libc::winsize {
        nix::ioctl_read_bad!(window_size, libc::TIOCGWINSZ, libc::winsize);
        let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the kernel fills in the struct, which is its own `struct winsize`.
        unsafe { window_size(fd.as_raw_fd(), &mut size) }.unwrap();
        size
    }

    #[tokio::test]
    async fn what_is_no_master_is_refused() {
        let (pipe, _writer) = nix::unistd::pipe().unwrap();
        assert_eq!(Pty::of(pipe).unwrap_err().raw_os_error(), Some(libc::ENOTTY));
        let opened = openpty(None, None).unwrap();
        Pty::of(opened.slave).unwrap_err();
    }

    fn sent(fds: &[RawFd]) -> io::Result<OwnedFd> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let rights = ControlMessage::ScmRights(fds);
        let rights: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &[rights] };
        sendmsg::<()>(theirs.as_raw_fd(), &[io::IoSlice::new(b"x")], rights, MsgFlags::empty(), None)
            .unwrap();
        receive_descriptor(ours.as_fd())
    }

    #[test]
    fn a_message_carries_exactly_one_descriptor() {
        sent(&[0]).unwrap();
        for bad in [&[][..], &[0, 0], &[0, 0, 0]] {
            assert_eq!(sent(bad).unwrap_err().kind(), io::ErrorKind::InvalidData, "{bad:?}");
        }
    }

    #[test]
    fn a_socket_that_is_closed_has_no_descriptor_to_come() {
        let (ours, _) = UnixStream::pair().unwrap();
        assert_eq!(receive_descriptor(ours.as_fd()).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
