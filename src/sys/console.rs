//! The standard descriptors of PID 1, and whole lines to fd 2 that never block for long.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Mutex;

use nix::errno::Errno;
use nix::fcntl::{fcntl, FcntlArg, OFlag};
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::stat::{fstat, major, makedev, minor, mknod, Mode, SFlag};
use nix::unistd::{dup2_stderr, dup2_stdout, write};

/// How long a line may wait for a console that takes nothing: a serial port at 115200 baud sends a kilobyte in
/// that time, and a host that does not read the console must not stop PID 1.
const PATIENCE_MS: u16 = 100;

/// The device number of /dev/null (Documentation/admin-guide/devices.txt in the kernel).
const NULL_DEVICE: (u64, u64) = (1, 3);

/// Makes fds 0, 1 and 2 usable: output goes to `/dev/console` where it went nowhere, the rest to `/dev/null`.
///
/// Descriptors that already lead somewhere are left alone, and fd 2 stops blocking writers. It may be called again
/// once `/dev` has been mounted and has a console after all.
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
    stop_blocking(io::stderr().as_fd())
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

fn stop_blocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlag::from_bits_truncate(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Writes a line, its newline included, to fd 2, in one write if the kernel takes it so.
///
/// It never fails. On a descriptor that does not block it waits at most [`PATIENCE_MS`] for room, and not at all
/// while the line before could not be written.
pub fn write_line(line: &str) {
    write_line_to(io::stderr().as_fd(), &STDERR, line);
}

static STDERR: Output = Output { turn: Mutex::new(()), stuck: AtomicBool::new(false) };

/// What is known about a descriptor that lines are written to.
struct Output {
    /// Held while a line is written, so that two lines do not mix.
    turn: Mutex<()>,
    /// The last line was not taken.
    stuck: AtomicBool,
}

fn write_line_to(fd: BorrowedFd<'_>, output: &Output, line: &str) {
    // A poisoned lock guards nothing but the order of lines.
    let _turn = output.turn.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut rest = line.as_bytes();
    while !rest.is_empty() {
        match write(fd, rest) {
            Ok(written) => {
                output.stuck.store(false, Ordering::Relaxed);
                rest = rest.get(written..).unwrap_or_default();
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) if !output.stuck.load(Ordering::Relaxed) && has_room_in_time(fd) => {}
            Err(_) => {
                output.stuck.store(true, Ordering::Relaxed);
                return;
            }
        }
    }
}

fn has_room_in_time(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::POLLOUT)];
    matches!(poll(&mut fds, PollTimeout::from(PATIENCE_MS)), Ok(ready) if ready > 0)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::{Duration, Instant};

    use super::*;

    fn output() -> Output {
        Output { turn: Mutex::new(()), stuck: AtomicBool::new(false) }
    }

    #[test]
    fn a_line_arrives_whole() {
        let (mut reader, writer) = io::pipe().unwrap();
        write_line_to(writer.as_fd(), &output(), "hello\n");
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello\n");
    }

    #[test]
    fn a_reader_that_does_not_read_costs_one_wait_and_no_more() {
        let (_reader, writer) = io::pipe().unwrap();
        stop_blocking(writer.as_fd()).unwrap();
        let output = output();
        let start = Instant::now();
        let line = "x".repeat(1024);
        for _ in 0..1000 {
            write_line_to(writer.as_fd(), &output, &line);
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        assert!(output.stuck.load(Ordering::Relaxed));
    }

    #[test]
    fn a_reader_that_has_gone_is_no_error() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        write_line_to(writer.as_fd(), &output(), "lost\n");
    }

    #[test]
    fn the_null_device_leads_nowhere_and_a_file_somewhere() {
        assert!(leads_nowhere(File::open("/dev/null").unwrap().as_fd()));
        assert!(!leads_nowhere(File::open("/proc/self/stat").unwrap().as_fd()));
    }
}
