//! Changes of files, as `inotify(7)` tells of them.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tokio::io::unix::AsyncFd;
use tokio::io::Interest;

/// What one read takes: 64 events, which are 16 bytes each where files are watched and not folders.
const EVENTS_BYTES: usize = 64 * 16;

/// Changes of some files. One descriptor, and one instance of the user's `fs.inotify.max_user_instances`.
#[derive(Debug)]
pub struct Changes(AsyncFd<File>);

impl Changes {
    /// Watches `files` from now on for writes and for their removal. Needs a tokio runtime; does not block.
    ///
    /// # Errors
    /// NotFound if one of them does not exist; `EMFILE` when the user has no instance left, `ENOSPC` when no watch.
    pub fn of(files: &[&Path]) -> io::Result<Changes> {
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just returned this descriptor to us alone.
        let inotify = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        for file in files {
            add_watch(&inotify, file)?;
        }
        // SAFETY: the descriptor is owned by the File inside and closed with it, after it was deregistered.
        let registered = unsafe { AsyncFd::register(inotify) };
        Ok(Changes(registered.map_err(|error| error.into_parts().1)?))
    }

    /// Waits until one of the files has changed since the last call, or is no more. Changes that came together are one.
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// Those of read(2).
    pub async fn next(&self) -> io::Result<()> {
        let take = |mut inotify: &File| inotify.read(&mut [0; EVENTS_BYTES]).map(drop);
        self.0.async_io(Interest::READABLE, take).await
    }
}

fn add_watch(inotify: &File, file: &Path) -> io::Result<()> {
    let path = CString::new(file.as_os_str().as_bytes())?;
    let events = libc::IN_MODIFY | libc::IN_DELETE_SELF;
    // SAFETY: `path` is a C string that outlives the call.
    if unsafe { libc::inotify_add_watch(inotify.as_raw_fd(), path.as_ptr(), events) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
