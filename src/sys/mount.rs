//! Mounting, unmounting, the table of mounts, and paths that cannot leave a directory.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{openat2, OFlag, OpenHow, ResolveFlag};
pub use nix::mount::MsFlags;
use nix::mount::{umount2, MntFlags};
use nix::sys::statfs::{statfs, FsType, TMPFS_MAGIC};

/// mount(2). An empty `source`, `kind` or `data` is handed over as none. Blocks as long as the device takes.
pub fn mount(source: &str, target: &Path, kind: &str, flags: MsFlags, data: &str) -> io::Result<()> {
    Ok(nix::mount::mount(given(source), target, given(kind), flags, given(data))?)
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

/// Mount points strictly below `root` in the mount namespace of this thread, those that cover others first.
pub fn mounts_below(root: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(below(&std::fs::read("/proc/thread-self/mountinfo")?, root))
}

fn below(mountinfo: &[u8], root: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = mountinfo
        .split(|byte| *byte == b'\n')
        // The fifth field is the mount point (proc_pid_mountinfo(5)).
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(unescape)
        .filter(|point| point != root && point.starts_with(root))
        .collect();
    found.reverse();
    // The sort is stable: of two mounts at one place the later one stays first.
    found.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    found
}

/// Blanks, newlines and backslashes stand in the table as a backslash and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] if *first == b'\\' => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(bytes).into()
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
    /// Opens `path` as seen by a process whose root is `root`: neither `..` nor a symlink leads out of it.
    pub fn beneath(root: &Path, path: &Path) -> io::Result<Place> {
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open(root, flags | OFlag::O_DIRECTORY, nix::sys::stat::Mode::empty())?;
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT);
        Ok(Place(openat2(root.as_fd(), path, how)?))
    }

    /// The path it has now, for the unmount and for people.
    pub fn path(&self) -> io::Result<PathBuf> {
        std::fs::read_link(self.handle())
    }

    /// A path by which the kernel finds exactly this place. Valid while `self` lives, and only in this process.
    pub fn handle(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"\
21 1 0:19 / / rw - ext4 /dev/vda rw
30 21 0:20 / /b/rootfs rw - tmpfs t rw
31 30 0:21 / /b/rootfs/proc rw - proc p rw
32 31 0:22 / /b/rootfs/proc/sys\\040x rw shared:1 - tmpfs t rw
33 30 0:23 / /b/rootfs/proc rw - tmpfs t rw
34 21 0:24 / /b/rootfs2 rw - tmpfs t rw

broken
";

    #[test]
    fn mounts_below_are_listed_deepest_and_latest_first() {
        let expected = ["/b/rootfs/proc/sys x", "/b/rootfs/proc", "/b/rootfs/proc"].map(PathBuf::from);
        assert_eq!(below(TABLE, Path::new("/b/rootfs")), expected);
    }

    #[test]
    fn a_place_beneath_a_root_is_never_outside_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("absolute")).unwrap();
        std::os::unix::fs::symlink("../../../../etc", root.join("relative")).unwrap();
        for path in ["etc", "/etc", "absolute", "relative", "../../etc", "/../etc"] {
            let place = Place::beneath(&root, Path::new(path)).unwrap();
            assert_eq!(place.path().unwrap(), root.join("etc"), "{path}");
        }
        assert!(Place::beneath(&root, Path::new("missing")).is_err());
    }
}
