//! The first steps of `start` and of the serving process, which make them independent of who called. Never touches what
//! is served.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, RawFd};
use std::os::unix::net::UnixListener;

use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd;

use super::InheritError;

/// Takes the listener that `start` left as standard input, puts `/dev/null` in its place, and leaves the session of
/// containerd, so that no terminal's or group's signal reaches the shim. The listener does not block.
///
/// # Errors
/// `Session`, and `Listener` where standard input is none.
pub fn inherited_listener() -> Result<UnixListener, InheritError> {
    unistd::setsid().map_err(|e| InheritError::Session(e.into()))?;
    take_stdin().map_err(InheritError::Listener)
}

fn take_stdin() -> io::Result<UnixListener> {
    let stdin = io::stdin();
    if !getsockopt(&stdin.as_fd(), sockopt::AcceptConn)? {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it does not listen"));
    }
    let listener = UnixListener::from(stdin.as_fd().try_clone_to_owned()?);
    unistd::dup2_stdin(File::open("/dev/null")?)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Closes all descriptors but the first three: what a caller has left open by mistake would stay open for as long as
/// the shim lives, and a reader of such a pipe would wait so long. Only before anything has been opened.
pub fn close_strangers() {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let strangers: Vec<RawFd> = numbers.filter(|number| *number > 2).collect();
    for number in strangers {
        // One of them was that of the folder itself, which is closed by now.
        let _ = unistd::close(number);
    }
}
