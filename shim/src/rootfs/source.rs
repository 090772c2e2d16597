//! The host's files that are bound into a container: opened once, so that what was looked at is what is bound, whatever
//! becomes of the path. Owns the look; never mounts.

use std::fs::{self, File, FileType};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{self, fstatfs, FsType};

use super::error::{step, RootfsError};
use super::tree::open_place;
use crate::plan::{check_bind, is_of_the_kernel, FileKind, Refusal, Volume};

/// File systems that are views of the host's kernel, wherever they are mounted. That of `/dev` cannot be told from any
/// tmpfs, and is told by its path.
const FILE_SYSTEMS_OF_THE_KERNEL: [FsType; 12] = [
    statfs::PROC_SUPER_MAGIC,
    statfs::SYSFS_MAGIC,
    statfs::DEVPTS_SUPER_MAGIC,
    statfs::CGROUP_SUPER_MAGIC,
    statfs::CGROUP2_SUPER_MAGIC,
    statfs::DEBUGFS_MAGIC,
    statfs::TRACEFS_MAGIC,
    statfs::SECURITYFS_MAGIC,
    statfs::SELINUX_MAGIC,
    statfs::BPF_FS_MAGIC,
    statfs::RDTGROUP_SUPER_MAGIC,
    statfs::NSFS_MAGIC,
];

/// What is at `path`, by stat(2), for [`crate::plan::World::kind_of`]. None if nothing is, or it cannot be told.
pub fn kind_of(path: &Path) -> Option<FileKind> {
    kind(fs::metadata(path).ok()?.file_type())
}

fn kind(of: FileType) -> Option<FileKind> {
    match of {
        _ if of.is_dir() => Some(FileKind::Directory),
        _ if of.is_file() => Some(FileKind::File),
        _ if of.is_socket() => Some(FileKind::Socket),
        _ if of.is_fifo() => Some(FileKind::Fifo),
        _ if of.is_block_device() || of.is_char_device() => Some(FileKind::Device),
        _ => None,
    }
}

/// The source of a volume.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) file: File,
    pub(super) directory: bool,
}

impl Source {
    /// Opens it, wherever its symlinks lead, and refuses what the planner would have refused there.
    pub(super) fn open(volume: &Volume) -> Result<Source, RootfsError> {
        let path = &volume.source;
        let file = match open_place(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let (source_path, destination) = (path.clone(), volume.destination.clone());
                return Err(Refusal::NoSource { source_path, destination }.into());
            }
            opened => opened.map_err(step("open", path))?,
        };
        let kind = kind(file.metadata().map_err(step("look at", path))?.file_type());
        let real = fs::read_link(name(&file)).map_err(step("find", path))?;
        let on = fstatfs(&file).map_err(step("look at the file system of", path))?.filesystem_type();
        let of_the_kernel = is_of_the_kernel(&real) || FILE_SYSTEMS_OF_THE_KERNEL.contains(&on);
        let directory = check_bind(path, &volume.destination, of_the_kernel, kind)?;
        Ok(Source { file, directory })
    }
}

/// A name of an open file for the kernel, in this process and as long as it is open.
pub(super) fn name(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}
