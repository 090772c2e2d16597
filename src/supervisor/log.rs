//! What the agent prints, in a log file of bounded size. It never looks into it, and never loses the tail of the file
//! for its head.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tokio::net::unix::pipe::Receiver;

use crate::blocking::Disks;
use crate::sys::file::open_to_append;

/// The length of the file at most. The one before it is kept beside it, so both hold 1 MiB: the guest's root is memory.
const FILE_BYTES: u64 = 512 * 1024;

/// What is taken from the pipe at once.
const BLOCK_BYTES: usize = 16 * 1024;

/// Writes what comes through the pipe to the log, until nobody holds the other end any more. Whoever prints waits while
/// a disk below the log does not answer; what cannot be written is dropped.
pub async fn relay(pipe: Receiver, path: PathBuf, disks: Disks) {
    let mut failing = false;
    while pipe.readable().await.is_ok() {
        let mut block = vec![0; BLOCK_BYTES];
        match pipe.try_read(&mut block) {
            Ok(0) => break,
            Ok(length) => block.truncate(length),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => break,
        }
        let path = path.clone();
        let written = disks.run("writing the agent's log", move || append(&path, &block)).await;
        let error = written.map_err(io::Error::other).and_then(|written| written).err();
        // One line for each time that it begins to fail.
        if let Some(error) = error.as_ref().filter(|_| !failing) {
            tracing::warn!(%error, "cannot write the log of the supervisor agent");
        }
        failing = error.is_some();
    }
}

/// Opened anew each time: whoever removes the file makes room, and it comes again. Blocks.
fn append(path: &Path, block: &[u8]) -> io::Result<()> {
    let length = fs::symlink_metadata(path).map_or(0, |file| file.len());
    if length + block.len() as u64 > FILE_BYTES {
        fs::rename(path, path.with_extension("log.1"))?;
    }
    File::from(open_to_append(path)?).write_all(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_and_the_one_before_it_hold_the_last_of_what_was_printed() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("var/log/agent.log");
        let printed: Vec<u8> =
            (0..3 * FILE_BYTES / 8).flat_map(|n| format!("{n:7}\n").into_bytes()).collect();
        for block in printed.chunks(BLOCK_BYTES - 1) {
            append(&path, block).expect("it is written");
            let length = fs::metadata(&path).expect("it is there").len();
            assert!(length <= FILE_BYTES, "{length}");
        }
        let files = [path.with_extension("log.1"), path.clone()].map(|file| fs::read(file).expect("a log"));
        let kept = files.concat();
        assert!(printed.ends_with(&kept), "the end of it, in order");
        assert!(kept.len() as u64 > FILE_BYTES, "{}", kept.len());
        assert_eq!(fs::read_dir(dir.path().join("var/log")).expect("a folder").count(), 2);
    }
}
