//! A folder for the files of one invocation of runc, gone when it is over.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A fresh log for every invocation: an error is never that of an earlier one.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Creates a folder of a new name in `parent`, and `parent` itself if need be.
    pub fn new(parent: &Path) -> io::Result<Scratch> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let path = parent.join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        // One that an earlier daemon left behind when it was killed.
        let _ = fs::remove_dir_all(&path);
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Scratch(path))
    }

    pub fn log_file(&self) -> PathBuf {
        self.0.join("log.json")
    }

    pub fn pid_file(&self) -> PathBuf {
        self.0.join("pid")
    }

    pub fn console_socket(&self) -> PathBuf {
        self.0.join("console")
    }

    /// A folder in it that does not exist yet.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file for runc to read, readable by its owner only: the environment of a process may hold secrets.
    pub fn write(&self, name: &str, content: &[u8]) -> io::Result<PathBuf> {
        let path = self.0.join(name);
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?.write_all(content)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove the files of an invocation");
        }
    }
}
