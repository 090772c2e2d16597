//! Mounting, unmounting, and paths that cannot leave a directory.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{openat2, OFlag, OpenHow, ResolveFlag};
pub use nix::mount::MsFlags;
use nix::mount::{umount2, MntFlags};
use nix::sys::stat::{mkdirat, Mode};
use nix::sys::statfs::{statfs, FsType, TMPFS_MAGIC};
use nix::unistd::fchdir;

use super::mountinfo::Mounted;

/// mount(2). An empty `source`, `kind` or `data` is handed over as none. Blocks as long as the device takes.
pub fn mount(source: &str, target: &Path, kind: &str, flags: MsFlags, data: &str) -> io::Result<()> {
    Ok(nix::mount::mount(given(source), target, given(kind), flags, given(data))?)
}

/// As [`mount()`], with the names in `data` that are relative followed from `dir`.
///
/// It runs on a thread of its own, which alone gets the working directory: all threads of a process share one.
pub fn mount_from(
    dir: &Place,
    source: &str,
    target: &Path,
    kind: &str,
    flags: MsFlags,
    data: &str,
) -> io::Result<()> {
    let thread = || {
        unshare_working_directory()?;
        fchdir(dir.0.as_fd())?;
        mount(source, target, kind, flags, data)
    };
    let ended = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("mount".to_owned()).spawn_scoped(scope, thread)?;
        Ok(thread.join())
    });
    ended.and_then(|joined| joined.unwrap_or_else(|_| Err(io::Error::other("the mounting thread panicked"))))
}

fn unshare_working_directory() -> io::Result<()> {
    // SAFETY: it takes no memory of ours and changes nothing but what this thread shares with the others.
    Errno::result(unsafe { libc::unshare(libc::CLONE_FS) })?;
    Ok(())
}

fn given(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// What became of a mount point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmounted {
    Yes,
    /// In use: it has gone from the tree, and ends when its last user does.
    Detached,
    /// Nothing was mounted there, or the path does not exist.
    Nothing,
}

/// Unmounts the topmost mount at `path`, which is not followed if it is a symlink. One that is busy is detached.
pub fn unmount(path: &Path) -> io::Result<Unmounted> {
    match umount2(path, MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) => Ok(Unmounted::Yes),
        Err(Errno::EINVAL | Errno::ENOENT) => Ok(Unmounted::Nothing),
        Err(Errno::EBUSY) => {
            umount2(path, MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH)?;
            Ok(Unmounted::Detached)
        }
        Err(errno) => Err(errno.into()),
    }
}

/// What became of a mount that is given up for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Released {
    /// It is not there any more, or was not there.
    Unmounted,
    /// In use, and its file system takes no more writes: all of it is on its disk.
    ReadOnly,
    /// Somebody may still write to it.
    Busy,
}

/// Unmounts the topmost mount at `path`, which is not followed if it is a symlink. A file system on a disk that is in use
/// is made read-only as a whole. It is never detached: whoever uses it would write on where nobody sees it.
pub fn release(mount: &Mounted) -> io::Result<Released> {
    match umount2(&mount.point, MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => return Ok(Released::Unmounted),
        Err(Errno::EBUSY) if mount.is_on_disk() => {}
        Err(Errno::EBUSY) => return Ok(Released::Busy),
        Err(errno) => return Err(errno.into()),
    }
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    match nix::mount::mount(None::<&str>, &mount.point, None::<&str>, flags, None::<&str>) {
        Ok(()) => Ok(Released::ReadOnly),
        Err(Errno::EBUSY) => Ok(Released::Busy),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether the file system at `path` is the kind an initramfs is unpacked into.
pub fn is_memory_backed(path: &Path) -> io::Result<bool> {
    /// RAMFS_MAGIC of linux/magic.h, which nix does not name.
    const RAMFS_MAGIC: FsType = FsType(0x8584_58f6u32 as _);
    Ok([RAMFS_MAGIC, TMPFS_MAGIC].contains(&statfs(path)?.filesystem_type()))
}

/// A place in the file system that stays the same whatever happens to its path.
pub struct Place(OwnedFd);

impl Place {
    /// Opens `path`, following what symlinks there are.
    pub fn open(path: &Path) -> io::Result<Place> {
        Ok(Place(nix::fcntl::open(path, PLACE, Mode::empty())?))
    }

    /// Opens `path` as seen from here. Neither `..` nor an absolute path leads out, and no symlink is followed at
    /// all: see [`leads_out`] for the error then.
    /// An empty path is here.
    pub fn beneath(&self, path: &Path) -> io::Result<Place> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        Ok(Place(self.open_beneath(path, PLACE)?))
    }

    /// Opens the directory `path` as if this were the root: `..` and symlinks are followed, absolute ones from here, and
    /// none leads out. Links of proc(5) to open files are not followed. An empty path is here.
    pub fn within(&self, path: &Path) -> io::Result<Place> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        Ok(Place(openat2(
            self.0.as_fd(),
            path,
            OpenHow::new().flags(PLACE | OFlag::O_DIRECTORY).resolve(resolve),
        )?))
    }

    /// Makes the directory `name` here, for its owner alone.
    pub fn make_dir(&self, name: &OsStr) -> io::Result<()> {
        Ok(mkdirat(self.0.as_fd(), name, Mode::S_IRWXU)?)
    }

    /// Gives this directory a mode, whatever the umask, and an owner if there is one to give.
    pub fn adorn(&self, mode: u32, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        let readable = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = File::from(self.open_beneath(Path::new("."), readable)?);
        // A change of owner clears set-id bits (chown(2)), so the mode comes last.
        std::os::unix::fs::fchown(&directory, uid, gid)?;
        directory.set_permissions(Permissions::from_mode(mode))
    }

    /// A path by which the kernel finds exactly this place. Valid while `self` lives, and only in this process.
    pub fn handle(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }

    fn open_beneath(&self, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
        let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
        Ok(openat2(self.0.as_fd(), path, OpenHow::new().flags(flags).resolve(resolve))?)
    }
}

/// A name for a file, not the right to read it (open(2), O_PATH).
const PLACE: OFlag = OFlag::O_PATH.union(OFlag::O_CLOEXEC);

/// Whether this error of [`Place::beneath`] says that the path runs through a symlink or out of the place
/// (openat2(2), ELOOP and EXDEV).
pub fn leads_out(error: &io::Error) -> bool {
    [libc::ELOOP, libc::EXDEV].map(Some).contains(&error.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_beneath_another_is_never_outside_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("etc/inner")).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("absolute")).unwrap();
        std::os::unix::fs::symlink("../../../../etc", root.join("relative")).unwrap();
        std::os::unix::fs::symlink("etc", root.join("inside")).unwrap();
        let root = Place::open(&root).unwrap();
        for path in ["etc", "etc/inner", "etc/../etc", ".", ""] {
            assert!(root.beneath(Path::new(path)).is_ok(), "{path}");
        }
        for path in
            ["/etc", "absolute", "relative", "inside", "inside/inner", "..", "../root", "etc/../../root"]
        {
            let refused = root.beneath(Path::new(path)).err().unwrap();
            assert!(leads_out(&refused), "{path}: {refused}");
        }
        for path in ["absolute", "relative", "inside/inner", "/etc/inner", "../../etc", ""] {
            assert!(root.within(Path::new(path)).is_ok(), "{path}");
        }
        let missing = root.beneath(Path::new("missing")).err().unwrap();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_directory_that_cannot_be_entered_is_an_error_and_moves_no_other_thread() {
        let before = std::env::current_dir().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let place = Place::open(file.path()).unwrap();
        let refused =
            mount_from(&place, "t", Path::new("/missing"), "tmpfs", MsFlags::empty(), "").unwrap_err();
        let expected = if nix::unistd::geteuid().is_root() { libc::ENOTDIR } else { libc::EPERM };
        assert!([libc::ENOTDIR, expected].map(Some).contains(&refused.raw_os_error()), "{refused}");
        assert_eq!(std::env::current_dir().unwrap(), before);
    }

    #[test]
    fn a_mount_in_use_is_never_detached_and_on_a_disk_it_takes_no_more_writes() {
        crate::sys::testing::in_private_mounts(|| {
            let dir = tempfile::tempdir().unwrap();
            let [path, file] = [dir.path().to_owned(), dir.path().join("file")];
            let mounted = |major| Mounted {
                device: (major, 1),
                point: path.clone(),
                kind: "tmpfs".into(),
                read_only: false,
            };
            let (in_memory, on_disk) = (mounted(0), mounted(254));
            mount("t", &path, "tmpfs", MsFlags::empty(), "").unwrap();
            let writer = File::create(&file).unwrap();
            assert_eq!(release(&in_memory).unwrap(), Released::Busy);
            assert_eq!(release(&on_disk).unwrap(), Released::Busy);
            drop(writer);
            let reader = File::open(&file).unwrap();
            assert_eq!(release(&on_disk).unwrap(), Released::ReadOnly);
            let refused = File::create(&file).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ReadOnlyFilesystem);
            drop(reader);
            assert_eq!(release(&on_disk).unwrap(), Released::Unmounted);
            assert!(!file.exists());
            assert_eq!(release(&on_disk).unwrap(), Released::Unmounted, "nothing is mounted there");
        });
    }
}
