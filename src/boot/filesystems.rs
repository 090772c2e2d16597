//! The file systems and device nodes that a Linux system is expected to have, as two tables.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{symlink, PermissionsExt};
use std::path::Path;

use nix::sys::stat::{makedev, mknod, Mode, SFlag};

use super::Boot;
use crate::sys::mount::{mount, MsFlags};

struct Mount {
    source: &'static str,
    target: &'static str,
    kind: &'static str,
    flags: MsFlags,
    data: &'static str,
}

const fn row(
    source: &'static str,
    target: &'static str,
    kind: &'static str,
    flags: MsFlags,
    data: &'static str,
) -> Mount {
    Mount { source, target, kind, flags, data }
}

const NONE: MsFlags = MsFlags::empty();
const NOSUID_NOEXEC: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC);
const NOSUID_NODEV: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);
const CLOSED: MsFlags = NOSUID_NOEXEC.union(MsFlags::MS_NODEV);

const PROC: Mount = row("proc", "/proc", "proc", CLOSED, "");

/// What is mounted after /proc, in this order. Programs may run from `/var/lib/spin-stack`, where a host puts its agent, and nowhere else
/// that is writable.
const MOUNTS: [Mount; 8] = [
    row("sysfs", "/sys", "sysfs", CLOSED, ""),
    row("none", "/sys/fs/cgroup", "cgroup2", NONE, ""),
    row("tmpfs", "/run", "tmpfs", CLOSED, ""),
    row("tmpfs", "/tmp", "tmpfs", CLOSED, ""),
    row("devtmpfs", "/dev", "devtmpfs", NOSUID_NOEXEC, ""),
    row("tmpfs", "/var/lib/spin-stack", "tmpfs", NOSUID_NODEV, "size=32m"),
    row("devpts", "/dev/pts", "devpts", NOSUID_NOEXEC, "gid=5,mode=0620,ptmxmode=0666"),
    row("shm", "/dev/shm", "tmpfs", CLOSED, "mode=1777,size=64m"),
];

/// Message queues, for containers that share the VM's IPC namespace and so are given this mount. Not every kernel has
/// them.
const MQUEUE: Mount = row("mqueue", "/dev/mqueue", "mqueue", CLOSED, "");

const LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "/dev/pts/ptmx"),
];

/// The device number of /dev/fuse (Documentation/admin-guide/devices.txt in the kernel).
const FUSE: (u64, u64) = (10, 229);

/// Mounts /proc, unless it is there. It comes before the boot, because the kernel command line is read from it; the boot
/// takes it along to its root.
pub fn mount_proc() -> io::Result<()> {
    // The kernel would mount another one over it (proc(5) is made anew for each mount since Linux 5.8).
    match Path::new("/proc/self").exists() {
        true => Ok(()),
        false => mount_row(&PROC),
    }
}

/// Mounts the table, making the mount points.
pub(super) fn mount_all(boot: &mut Boot<'_>) {
    boot.attempt(PROC.target, mount_proc());
    for row in MOUNTS {
        boot.attempt(row.target, mount_row(&row));
    }
    boot.attempt(MQUEUE.target, if_known(mount_row(&MQUEUE)));
    boot.attempt("/run/lock", make_dir("/run/lock", 0o1777));
}

fn mount_row(row: &Mount) -> io::Result<()> {
    fs::create_dir_all(row.target)?;
    match mount(row.source, Path::new(row.target), row.kind, row.flags, row.data) {
        // The kernel has mounted it already, as it does with devtmpfs on a root that is a disk.
        Err(error) if error.kind() == ErrorKind::ResourceBusy => Ok(()),
        result => result,
    }
}

/// A kind of file system that the kernel lacks is no failure.
fn if_known(mounted: io::Result<()>) -> io::Result<()> {
    match mounted {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        result => result,
    }
}

/// The mode is set apart from the making, because the umask would take some of it.
fn make_dir(path: &str, mode: u32) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Makes what devtmpfs does not bring: links into `/proc`, and `/dev/fuse` before its module is loaded.
pub(super) fn make_nodes(boot: &mut Boot<'_>) {
    boot.attempt("/dev/fuse", unless_there(make_fuse()));
    for (link, target) in LINKS {
        boot.attempt(link, unless_there(symlink(target, link)));
    }
}

fn make_fuse() -> io::Result<()> {
    mknod("/dev/fuse", SFlag::S_IFCHR, Mode::empty(), makedev(FUSE.0, FUSE.1))?;
    fs::set_permissions("/dev/fuse", Permissions::from_mode(0o666))
}

fn unless_there(made: io::Result<()>) -> io::Result<()> {
    match made {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::super::tests::{failures_of, in_empty_root};
    use super::*;

    #[test]
    fn an_empty_root_gets_its_file_systems() {
        in_empty_root(|| {
            assert_eq!(failures_of(mount_all), 0);

            let mounted = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
            for row in [PROC].into_iter().chain(MOUNTS) {
                assert!(mounted.contains(&format!(" {} ", row.target)), "{} is not in {mounted}", row.target);
            }
            assert_eq!(fs::metadata("/run/lock").unwrap().mode() & 0o7777, 0o1777);
        });
    }

    /// In a plain folder, because devtmpfs is one for the whole machine.
    #[test]
    fn nodes_are_made_once_and_found_there_the_second_time() {
        in_empty_root(|| {
            fs::create_dir("/dev").unwrap();
            assert_eq!(failures_of(make_nodes), 0);
            assert_eq!(failures_of(make_nodes), 0);

            let fuse = fs::metadata("/dev/fuse").unwrap();
            assert_eq!((fuse.mode() & 0o777, fuse.rdev()), (0o666, makedev(FUSE.0, FUSE.1)));
            assert_eq!(fs::read_link("/dev/stdin").unwrap(), Path::new("/proc/self/fd/0"));
            assert!(fs::symlink_metadata("/dev/ptmx").is_ok());
        });
    }
}
