//! Where the three ends of a process lead, as a request said; and the opening of what is a file.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::stdio::OpenError;
use super::uri::{StreamId, StreamIds, Uri, UriError};
use crate::blocking::Disks;
use crate::sys::file;
use crate::sys::process::dev_null;

/// Where the three go, as a request said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StdioSpec {
    pub stdin: Uri,
    pub stdout: Uri,
    pub stderr: Uri,
    /// stdin and stdout are those of a terminal, which the process gets from the runtime; stderr is not used.
    pub terminal: bool,
}

/// Where one of the three goes, with what is a file opened.
#[derive(Debug)]
pub(super) enum End {
    Open(OwnedFd),
    Stream(StreamId),
    /// To the StdIO service.
    Served,
}

/// Where the three go, with what is a file opened.
#[derive(Debug)]
pub struct Ends {
    pub(super) stdin: End,
    pub(super) stdout: End,
    /// `None`: the same as stdout.
    pub(super) stderr: Option<End>,
    /// The first two lead to and from a terminal.
    pub(super) terminal: bool,
}

impl StdioSpec {
    /// Each of the three is decided on its own.
    pub fn parse(stdin: &str, stdout: &str, stderr: &str, ids: StreamIds) -> Result<StdioSpec, UriError> {
        let parse = |uri| Uri::parse(uri, ids);
        Ok(StdioSpec {
            stdin: parse(stdin)?,
            stdout: parse(stdout)?,
            stderr: parse(stderr)?,
            terminal: false,
        })
    }

    /// Of a process with a terminal, which has one output. It is not for files, nor for the StdIO service.
    pub fn parse_terminal(stdin: &str, stdout: &str, ids: StreamIds) -> Result<StdioSpec, UriError> {
        let parse = |uri| match Uri::parse(uri, ids)? {
            Uri::File(_) => Err(UriError::Unsupported("file".to_owned())),
            Uri::Served => Err(UriError::Unsupported("rpcio".to_owned())),
            uri => Ok(uri),
        };
        Ok(StdioSpec { stdin: parse(stdin)?, stdout: parse(stdout)?, stderr: Uri::Null, terminal: true })
    }

    /// The streams it names, each output once.
    pub fn streams(&self) -> Vec<StreamId> {
        let named = [Some(&self.stdin), Some(&self.stdout), (!self.is_shared()).then_some(&self.stderr)];
        let stream = |uri: &Uri| match uri {
            Uri::Stream(id) => Some(id.clone()),
            Uri::Null | Uri::File(_) | Uri::Served => None,
        };
        named.into_iter().flatten().filter_map(stream).collect()
    }

    /// Whether both outputs are to go the same way. The StdIO service tells them apart by method, not by URI.
    fn is_shared(&self) -> bool {
        self.stderr == self.stdout && self.stdout != Uri::Served
    }

    /// Opens what is not a stream. Files get a turn for it, as their disk may be slow.
    pub async fn open(&self, disks: &Disks) -> Result<Ends, OpenError> {
        let stdin = open(disks, &self.stdin, file::open_to_read).await?;
        let stdout = open(disks, &self.stdout, file::open_to_append).await?;
        let stderr = match self.is_shared() {
            true => None,
            false => Some(open(disks, &self.stderr, file::open_to_append).await?),
        };
        Ok(Ends { stdin, stdout, stderr, terminal: self.terminal })
    }
}

async fn open(disks: &Disks, uri: &Uri, open: fn(&Path) -> io::Result<OwnedFd>) -> Result<End, OpenError> {
    let path = match uri {
        Uri::Null => return Ok(End::Open(dev_null()?)),
        Uri::Stream(id) => return Ok(End::Stream(id.clone())),
        Uri::Served => return Ok(End::Served),
        Uri::File(path) => path.clone(),
    };
    let work = move || open(&path).map_err(|source| OpenError::File { path, source });
    disks.run("opening a file for stdio", work).await?.map(End::Open)
}
