//! The table of mounts, as far as it tells what kind of file system is where.

use std::cmp::Reverse;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// Major and minor number of the file system: those of its block device, or numbers of its own with major 0.
    pub device: (u32, u32),
    pub point: PathBuf,
    /// The type of the file system.
    pub kind: String,
    /// Whether the file system is read-only, and not only this mount of it.
    pub read_only: bool,
}

impl Mounted {
    /// Whether a block device is behind it. btrfs has numbers of its own, as it may be on several.
    pub fn is_on_disk(&self) -> bool {
        self.device.0 != 0 || self.kind == "btrfs"
    }
}

/// What is mounted in the mount namespace of this thread, in the kernel's order: a mount stands behind the one it is on.
///
/// # Errors
/// Those of reading a file of `/proc`.
pub fn mounts() -> io::Result<Vec<Mounted>> {
    Ok(parse(&std::fs::read("/proc/thread-self/mountinfo")?))
}

/// The same with those first that cover others: the order in which they can be unmounted.
///
/// # Errors
/// As [`mounts`].
pub fn topmost_first() -> io::Result<Vec<Mounted>> {
    mounts().map(sorted)
}

/// Mounts strictly below `root`, those first that cover others.
///
/// # Errors
/// As [`mounts`].
pub fn below(root: &Path) -> io::Result<Vec<Mounted>> {
    topmost_first().map(|mounts| only_below(mounts, root))
}

/// The points of [`below`].
///
/// # Errors
/// As [`mounts`].
pub fn mounts_below(root: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(below(root)?.into_iter().map(|mount| mount.point).collect())
}

fn sorted(mut mounts: Vec<Mounted>) -> Vec<Mounted> {
    mounts.reverse();
    // The sort is stable: of two mounts at one place the later one stays first.
    mounts.sort_by_key(|mount| Reverse(mount.point.components().count()));
    mounts
}

fn only_below(mut mounts: Vec<Mounted>, root: &Path) -> Vec<Mounted> {
    mounts.retain(|mount| mount.point != root && mount.point.starts_with(root));
    mounts
}

fn parse(mountinfo: &[u8]) -> Vec<Mounted> {
    mountinfo.split(|byte| *byte == b'\n').filter_map(mounted).collect()
}

/// proc_pid_mountinfo(5): two numbers, device, root, point, options, more of those up to a dash, type, source, options
/// of the file system.
fn mounted(line: &[u8]) -> Option<Mounted> {
    let mut fields = line.split(|byte| *byte == b' ');
    let (major, minor) = std::str::from_utf8(fields.nth(2)?).ok()?.split_once(':')?;
    let device = (major.parse().ok()?, minor.parse().ok()?);
    let point = unescape(fields.nth(1)?);
    let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
    let kind = String::from_utf8_lossy(rest.next()?).into_owned();
    let read_only = rest.nth(1)?.split(|byte| *byte == b',').any(|option| option == b"ro");
    Some(Mounted { device, point, kind, read_only })
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

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &[u8] = b"\
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
        let below = only_below(sorted(parse(MOUNTINFO)), Path::new("/b/rootfs"));
        assert_eq!(below.into_iter().map(|mount| mount.point).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_is_on_a_disk_has_a_device_with_a_number_or_is_btrfs() {
        let table = b"1 0 0:19 / / rw - tmpfs t rw\n2 1 254:0 / /d rw - ext4 /dev/vda rw\n\
            3 1 0:20 / /e rw - btrfs /dev/vdb rw\n";
        let on_disk: Vec<bool> = parse(table).iter().map(Mounted::is_on_disk).collect();
        assert_eq!(on_disk, [false, true, true]);
    }

    #[test]
    fn a_line_tells_device_point_and_type() {
        let parsed = parse(
            b"32 31 0:22 / /b/sys\\040x rw shared:1 - tmpfs t rw\n\nbroken\n7 1 x:1 / /a rw - a b rw\n",
        );
        let point = "/b/sys x".into();
        assert_eq!(parsed, [Mounted { device: (0, 22), point, kind: "tmpfs".into(), read_only: false }]);
    }

    #[test]
    fn a_mount_that_is_read_only_may_be_of_a_file_system_that_is_not() {
        let read_only = |line: &[u8]| parse(line)[0].read_only;
        assert!(!read_only(b"36 35 98:0 /m1 /m2 ro,noatime master:1 shared:2 - ext3 /dev/root rw,errors=ro"));
        assert!(read_only(b"36 35 98:0 /m1 /m2 rw - ext4 /dev/root ro,errors=continue"));
    }

    #[test]
    fn the_kernels_own_table_has_the_root() {
        let mounts = mounts().unwrap();
        assert!(mounts.iter().any(|mount| mount.point == Path::new("/")), "{mounts:?}");
    }
}
