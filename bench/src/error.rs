//! Why a benchmark has no figures.

use std::io;
use std::path::PathBuf;

use vminit_shim::client::ClientError;
use vminit_shim::vm::VmError;

/// Why something could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("use the command line: {0}")]
    Usage(String),
    #[error("run the microVM: {0}")]
    Vm(#[from] VmError),
    #[error("call the guest: {0}")]
    Guest(#[from] ClientError),
    #[error("{what}: {source}")]
    Io { what: &'static str, source: io::Error },
    #[error("use {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("read the symbols of the guest binary: {source}")]
    Elf { source: object::Error },
    /// It printed why to where its stderr goes.
    #[error("run {args}: it ended with status {status}")]
    Ended { args: String, status: u32 },
    #[error("use runc: it is not on this machine, or this is not root")]
    NoRunc,
    #[error("read what a process printed: {0:?}")]
    Said(String),
}

impl BenchError {
    /// Names what was tried, for use in `map_err`.
    pub fn io(what: &'static str) -> impl FnOnce(io::Error) -> BenchError {
        move |source| BenchError::Io { what, source }
    }
}
