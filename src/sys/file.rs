//! Files that others may have put there: opening them never waits for another process.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::{fcntl, FcntlArg, OFlag};

/// Opens a file to write at its end, each write whole (O_APPEND). It and the folders above it are made if they are not
/// there: the file with mode 0600, folders with 0750, less the umask. Blocks on the disk.
///
/// # Errors
/// Those of open(2) and mkdir(2); `ENXIO` for a FIFO that nobody reads.
pub fn open_to_append(path: &Path) -> io::Result<OwnedFd> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
    }
    open(path, OpenOptions::new().append(true).create(true).mode(0o600))
}

/// Opens a file to read from its beginning. Blocks on the disk.
///
/// # Errors
/// Those of open(2).
pub fn open_to_read(path: &Path) -> io::Result<OwnedFd> {
    open(path, OpenOptions::new().read(true))
}

/// The text of a file of at most `most` bytes; what is not UTF-8 in it is replaced. Blocks on the disk.
///
/// # Errors
/// Those of [`open_regular`] and read(2); `FileTooLarge` beyond `most`.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too large.
    open_regular(path, OpenOptions::new().read(true))?.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(io::ErrorKind::FileTooLarge.into()),
        false => Ok(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

/// Opens a file, and refuses a FIFO, a device or a folder in its place. Blocks on the disk.
///
/// # Errors
/// Those of open(2); `InvalidInput` for what is no regular file.
pub fn open_regular(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = File::from(open(path, options)?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
    }
}

/// Non-blocking while it is opened, as a FIFO without a peer would block for ever (fifo(7)); blocking afterwards, as a
/// process expects it.
fn open(path: &Path, options: &mut OpenOptions) -> io::Result<OwnedFd> {
    let file: File = options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL)?);
    fcntl(&file, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_appended_to_and_its_folders_are_made() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let path = folder.path().join("a/b/log");
        for text in ["one ", "two"] {
            let fd = open_to_append(&path).expect("it opens");
            File::from(fd).write_all(text.as_bytes()).expect("it is written");
        }
        let mut text = String::new();
        File::from(open_to_read(&path).expect("it opens")).read_to_string(&mut text).expect("it is read");
        assert_eq!(text, "one two");
        let mode = |path: &Path| path.metadata().expect("it is there").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&folder.path().join("a")) & !0o750), (0o600, 0));
    }

    #[test]
    fn a_fifo_without_a_peer_does_not_block() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let path = folder.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        let refused = open_to_append(&path).expect_err("nobody reads it");
        assert_eq!(refused.raw_os_error(), Some(libc::ENXIO));
        open_to_read(&path).expect("it opens");
    }
}
