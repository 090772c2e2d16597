//! Changes of files and folders, as `inotify(7)` tells of them.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tokio::io::unix::AsyncFd;
use tokio::io::Interest;

/// What one read takes: 64 events of files, which are 16 bytes each; of a folder at least three, which have a name of up
/// to 255 bytes and its end besides (inotify(7)).
const EVENTS_BYTES: usize = 64 * 16;

/// Changes of some files or folders. One descriptor, and one instance of the user's `fs.inotify.max_user_instances`.
#[derive(Debug)]
pub struct Changes(AsyncFd<File>);

impl Changes {
    /// Watches `files` from now on for writes and for their removal. Needs a tokio runtime; does not block.
    ///
    /// # Errors
    /// NotFound if one of them does not exist; `EMFILE` when the user has no instance left, `ENOSPC` when no watch.
    pub fn of(files: &[&Path]) -> io::Result<Changes> {
        Changes::watching(files, libc::IN_MODIFY | libc::IN_DELETE_SELF)
    }

    /// Watches `folders` from now on for files and folders that appear in them, and for their removal; otherwise as
    /// [`of`](Self::of).
    pub fn in_folders(folders: &[&Path]) -> io::Result<Changes> {
        Changes::watching(folders, libc::IN_CREATE | libc::IN_MOVED_TO | libc::IN_DELETE_SELF)
    }

    fn watching(paths: &[&Path], events: u32) -> io::Result<Changes> {
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just returned this descriptor to us alone.
        let inotify = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        for path in paths {
            add_watch(&inotify, path, events)?;
        }
        // SAFETY: the descriptor is owned by the File inside and closed with it, after it was deregistered.
        let registered = unsafe { AsyncFd::register(inotify) };
        Ok(Changes(registered.map_err(|error| error.into_parts().1)?))
    }

    /// Waits until one of them has changed since the last call, or is no more. Changes that came together are one.
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// Those of read(2).
    pub async fn next(&self) -> io::Result<()> {
        let take = |mut inotify: &File| inotify.read(&mut [0; EVENTS_BYTES]).map(drop);
        self.0.async_io(Interest::READABLE, take).await
    }
}

fn add_watch(inotify: &File, path: &Path, events: u32) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `path` is a C string that outlives the call.
    if unsafe { libc::inotify_add_watch(inotify.as_raw_fd(), path.as_ptr(), events) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
