//! The standard descriptors of PID 1, and writing to fd 2.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::stat::{fstat, major, makedev, minor, mknod, Mode, SFlag};
use nix::unistd::{dup2_stderr, dup2_stdout, write};

/// The device number of /dev/null (Documentation/admin-guide/devices.txt in the kernel).
const NULL_DEVICE: (u64, u64) = (1, 3);

/// Makes fds 0, 1 and 2 usable: output goes to `/dev/console` where it went nowhere, the rest to `/dev/null`.
///
/// Descriptors that already lead somewhere are left alone. It may be called again once `/dev` has been mounted and has a
/// console after all.
pub fn adopt() -> io::Result<()> {
    let null = fill_closed()?;
    let console = open_console();
    let output = console.as_ref().unwrap_or(&null);
    if leads_nowhere(io::stdout().as_fd()) {
        dup2_stdout(output)?;
    }
    if leads_nowhere(io::stderr().as_fd()) {
        dup2_stderr(output)?;
    }
    Ok(())
}

/// Opens `/dev/null` for whichever of fds 0, 1 and 2 is closed, and once more for use.
fn fill_closed() -> io::Result<File> {
    loop {
        // open(2) gives out the lowest number that is free.
        let null = open_null()?;
        if null.as_raw_fd() > libc::STDERR_FILENO {
            return Ok(null);
        }
        // It has its place now and is not to be closed.
        let _ = null.into_raw_fd();
    }
}

fn open_console() -> Option<File> {
    let flags = libc::O_NOCTTY | libc::O_NONBLOCK | libc::O_CLOEXEC;
    OpenOptions::new().write(true).custom_flags(flags).open("/dev/console").ok()
}

/// Opens `/dev/null`, making the node if an image without `/dev` was booted.
fn open_null() -> io::Result<File> {
    let path = Path::new("/dev/null");
    if !path.exists() {
        std::fs::create_dir_all("/dev")?;
        mknod(path, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(NULL_DEVICE.0, NULL_DEVICE.1))?;
    }
    OpenOptions::new().read(true).write(true).open(path)
}

/// Closed, or the null device, which is what std opens at start for a descriptor that is closed.
fn leads_nowhere(fd: BorrowedFd<'_>) -> bool {
    let Ok(stat) = fstat(fd) else { return true };
    let is_device = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR;
    is_device && (major(stat.st_rdev), minor(stat.st_rdev)) == NULL_DEVICE
}

/// Writes all of it to fd 2, and waits as long as that takes: for ever, if nobody reads. What cannot be written is
/// forgotten.
pub fn write_all(bytes: &[u8]) {
    write_all_to(io::stderr().as_fd(), bytes);
}

fn write_all_to(fd: BorrowedFd<'_>, mut rest: &[u8]) {
    while !rest.is_empty() {
        match write(fd, rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) if await_room(fd) => {}
            Err(_) => return,
        }
    }
}

/// The console is opened without blocking, and another process may have made the descriptor so.
fn await_room(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::POLLOUT)];
    matches!(poll(&mut fds, PollTimeout::NONE), Ok(_) | Err(Errno::EINTR))
}

/// Waits until a terminal at fd 2 has sent what was written to it, as it keeps some KiB; for ever, if its flow was
/// stopped. There is nothing to wait for if fd 2 is something else.
pub fn drain() {
    // SAFETY: it takes a number and reads or writes no memory of ours.
    unsafe { libc::tcdrain(libc::STDERR_FILENO) };
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use nix::fcntl::{fcntl, FcntlArg, OFlag};

    use super::*;

    #[test]
    fn text_arrives_whole_when_the_descriptor_does_not_block() {
        let (mut reader, writer) = io::pipe().unwrap();
        fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        // More than a pipe holds.
        let text = vec![b'x'; 1 << 20];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                write_all_to(writer.as_fd(), &text);
                drop(writer);
            });
            let mut read = Vec::new();
            reader.read_to_end(&mut read).unwrap();
            assert!(read == text);
        });
    }

    #[test]
    fn a_reader_that_has_gone_is_no_error() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        write_all_to(writer.as_fd(), b"lost\n");
    }

    #[test]
    fn the_null_device_leads_nowhere_and_a_file_somewhere() {
        assert!(leads_nowhere(File::open("/dev/null").unwrap().as_fd()));
        assert!(!leads_nowhere(File::open("/proc/self/stat").unwrap().as_fd()));
    }
}
