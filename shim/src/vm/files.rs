//! The files that QEMU works on, opened by us: it may be a user who cannot reach them. Owns what is checked of them
//! before anything is started; reads nothing.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{Part, VmConfig, VmError, Vsock};

/// The mode bit by which everyone may read.
const OTHERS_READ: u32 = 0o004;

/// The kernel, the initrd, and the disks.
#[derive(Debug)]
pub(super) struct Files {
    kernel: File,
    initrd: File,
    disks: Vec<File>,
}

impl Files {
    /// Opens all of them.
    ///
    /// # Errors
    /// `Missing`, `Open` and `Unreadable`, also for programs that are not there.
    pub(super) fn open(config: &VmConfig) -> Result<Files, VmError> {
        let kernel = boot_file("kernel", &config.kernel, config)?;
        let initrd = boot_file("initrd", &config.initrd, config)?;
        let disk = |disk: &super::Disk| open("disk", &disk.path, !disk.read_only);
        let disks = config.disks.iter().map(disk).collect::<Result<_, _>>()?;
        if let Vsock::Backend(program) = &config.vsock {
            exists("vsock backend", program)?;
        }
        if let Some(share) = &config.share {
            exists("virtiofsd", &share.virtiofsd)?;
            exists("shared folder", &share.dir)?;
        }
        Ok(Files { kernel, initrd, disks })
    }

    /// The kernel once more.
    pub(super) fn kernel(&self) -> Result<OwnedFd, VmError> {
        let kernel = self.kernel.try_clone().map_err(|source| VmError::Start { part: Part::Qemu, source })?;
        Ok(kernel.into())
    }

    /// All that QEMU is started with, in the order in which its arguments (`args`) count it.
    pub(super) fn in_order(self, monitor: OwnedFd, vsock: OwnedFd, share: Option<OwnedFd>) -> Vec<OwnedFd> {
        let first = [self.kernel.into(), self.initrd.into(), monitor, vsock];
        let disks = self.disks.into_iter().map(OwnedFd::from);
        first.into_iter().chain(disks).chain(share).collect()
    }
}

/// QEMU opens this once more by its descriptor's path, for which its mode must let it (proc(5), `/proc/pid/fd`).
fn boot_file(what: &'static str, path: &Path, config: &VmConfig) -> Result<File, VmError> {
    let file = open(what, path, false)?;
    let mode = file.metadata().map_err(|source| failed(what, path, source))?.permissions().mode();
    match config.user.is_none() || mode & OTHERS_READ != 0 {
        true => Ok(file),
        false => Err(VmError::Unreadable { path: path.to_owned() }),
    }
}

fn open(what: &'static str, path: &Path, write: bool) -> Result<File, VmError> {
    OpenOptions::new().read(true).write(write).open(path).map_err(|source| failed(what, path, source))
}

fn exists(what: &'static str, path: &Path) -> Result<(), VmError> {
    path.metadata().map(drop).map_err(|source| failed(what, path, source))
}

fn failed(what: &'static str, path: &Path, source: io::Error) -> VmError {
    match source.kind() {
        ErrorKind::NotFound => VmError::Missing { what, path: path.to_owned() },
        _ => VmError::Open { what, path: path.to_owned(), source },
    }
}
