//! Opening the host's ends, all or none. Owns how each kind is opened and written; never reads from a guest.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use tokio::fs::{DirBuilder, File, OpenOptions};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe::Sender;

use super::fifo::{FifoReader, FifoWriter};
use super::logger::{Logger, LoggerError, Owner};
use super::uri::{Outputs, Place, StdioSpec};

/// The modes of a log file and of its folders, those of containerd's own shim.
const FILE_MODE: u32 = 0o644;
const FOLDER_MODE: u32 = 0o755;

/// Why the ends of a process could not be opened. Those that were are closed again. The caller is told UNKNOWN, as for
/// what the guest cannot open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is missing, or something else.
    #[error("open the FIFO {}: {source}", path.display())]
    Fifo { path: PathBuf, source: io::Error },
    #[error("open the log file {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("start the logging binary {}: {source}", program.display())]
    Logger { program: PathBuf, source: LoggerError },
}

/// The host's ends of one process's stdio. Dropping them closes them; a logger then ends by itself, within its bounds.
#[derive(Debug, Default)]
pub struct Ends {
    /// For the log.
    pub(super) process: String,
    pub(super) stdin: Option<FifoReader>,
    pub(super) stdout: Option<Sink>,
    pub(super) stderr: Option<Sink>,
    pub(super) logger: Option<Logger>,
}

/// What output is written to.
#[derive(Debug)]
pub(super) enum Sink {
    Fifo(FifoWriter),
    File(File),
    /// The write end of a logger's pipe.
    Logger(Sender),
}

impl Ends {
    /// Opens what `spec` names for the process `owner`. FIFOs must be there and are opened without waiting for anybody;
    /// a logging binary is started, by the calling thread, and awaited until it is ready. Needs a tokio runtime; one
    /// that is not driven to its end leaves a logger to the ends of its pipes.
    ///
    /// # Errors
    /// Any [`OpenError`].
    pub async fn open(spec: &StdioSpec, owner: Owner<'_>) -> Result<Ends, OpenError> {
        let stdin = spec.stdin.as_deref().map(|path| fifo(path, FifoReader::open)).transpose()?;
        let ends = Ends { process: owner.id.to_owned(), stdin, ..Ends::default() };
        match &spec.outputs {
            Outputs::Apart { stdout, stderr } => Ok(Ends {
                stdout: sink(stdout.as_ref()).await?,
                stderr: sink(stderr.as_ref()).await?,
                ..ends
            }),
            Outputs::Together(place) => Ok(Ends { stdout: sink(Some(place)).await?, ..ends }),
            Outputs::Logger { logger: uri, stderr } => {
                let (logger, pipes) = Logger::start(uri, owner)
                    .await
                    .map_err(|source| OpenError::Logger { program: uri.program.clone(), source })?;
                let err = stderr.then_some(pipes.stderr).map(Sink::Logger);
                Ok(Ends {
                    stdout: Some(Sink::Logger(pipes.stdout)),
                    stderr: err,
                    logger: Some(logger),
                    ..ends
                })
            }
        }
    }
}

impl Sink {
    /// Waits while there is no room.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Sink::Fifo(fifo) => fifo.write_all(bytes).await,
            Sink::File(file) => {
                file.write_all(bytes).await?;
                // It is a thread that writes; its error would else be that of the next write.
                file.flush().await
            }
            Sink::Logger(pipe) => pipe.write_all(bytes).await,
        }
    }

    /// Closes it when nothing of what was written is lost thereby.
    pub async fn end(self) {
        if let Sink::Fifo(fifo) = self {
            fifo.end().await;
        }
    }
}

fn fifo<T>(path: &Path, open: fn(&Path) -> io::Result<T>) -> Result<T, OpenError> {
    open(path).map_err(|source| OpenError::Fifo { path: path.to_owned(), source })
}

async fn sink(place: Option<&Place>) -> Result<Option<Sink>, OpenError> {
    let Some(place) = place else { return Ok(None) };
    Ok(Some(match place {
        Place::Fifo(path) => Sink::Fifo(fifo(path, FifoWriter::open)?),
        Place::File(path) => {
            Sink::File(append(path).await.map_err(|source| OpenError::File { path: path.clone(), source })?)
        }
    }))
}

/// Each write goes to the end of the file, whoever else writes to it: open(2), O_APPEND.
async fn append(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder).await?;
    }
    // What turns out to be a FIFO must not hold up a thread, nor is it one that outlives its reader.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file =
        OpenOptions::new().append(true).create(true).mode(FILE_MODE).custom_flags(flags).open(path).await?;
    if file.metadata().await?.file_type().is_fifo() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a FIFO"));
    }
    Ok(file)
}
