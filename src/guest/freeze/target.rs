//! Which file systems a freeze is about. Pure: it looks at a table of mounts, not at the system.

use std::path::{Path, PathBuf};

use crate::sys::mountinfo::Mounted;

/// File systems of block devices that can be frozen and written to. Whatever is in memory or stands on others (tmpfs,
/// overlay) keeps nothing on a disk.
const KINDS: [&str; 6] = ["ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs"];

/// A file system by its device: the same one however often it is mounted.
pub type Device = (u32, u32);

/// A file system to be frozen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub device: Device,
    /// Where it is mounted; the first is what a host is told.
    pub points: Vec<PathBuf>,
}

/// Every file system on a disk that is not read-only and whose first mount is at `below` or below it: once each, in the
/// order of those mounts. The root is left out: what PID 1 itself needs to go on is there.
pub fn targets(mounts: Vec<Mounted>, below: &Path) -> Vec<Target> {
    let root: Vec<Device> =
        mounts.iter().filter(|mount| mount.point == Path::new("/")).map(|mount| mount.device).collect();
    let frozen = |mount: &Mounted| {
        KINDS.contains(&mount.kind.as_str()) && !mount.read_only && !root.contains(&mount.device)
    };
    let mut targets: Vec<Target> = Vec::new();
    for Mounted { device, point, .. } in mounts.into_iter().filter(frozen) {
        match targets.iter_mut().find(|target| target.device == device) {
            Some(target) => target.points.push(point),
            None => targets.push(Target { device, points: vec![point] }),
        }
    }
    targets.retain(|target| target.points.first().is_some_and(|point| point.starts_with(below)));
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(minor: u32, point: &str, kind: &str, read_only: bool) -> Mounted {
        Mounted { device: (254, minor), point: point.into(), kind: kind.into(), read_only }
    }

    #[test]
    fn a_device_is_one_target_however_often_it_is_mounted() {
        let mounts = vec![
            mount(1, "/a", "ext4", false),
            mount(2, "/b", "xfs", false),
            mount(1, "/a/bind", "ext4", false),
        ];
        let target = |minor, points: &[&str]| Target {
            device: (254, minor),
            points: points.iter().map(PathBuf::from).collect(),
        };
        assert_eq!(targets(mounts, Path::new("/")), [target(1, &["/a", "/a/bind"]), target(2, &["/b"])]);
    }

    /// Else an ordinary process would freeze the machine it is tested on.
    #[test]
    fn what_is_first_mounted_elsewhere_is_left_alone() {
        let mounts = vec![
            mount(1, "/home", "ext4", false),
            mount(1, "/b/c/rootfs", "ext4", false),
            mount(2, "/b/d/rootfs", "ext4", false),
            mount(3, "/bundles", "ext4", false),
        ];
        let targets = targets(mounts, Path::new("/b"));
        assert_eq!(targets, [Target { device: (254, 2), points: vec!["/b/d/rootfs".into()] }]);
    }

    #[test]
    fn what_is_in_memory_read_only_or_the_root_is_left_alone() {
        let mounts = vec![
            mount(1, "/", "ext4", false),
            mount(1, "/root/again", "ext4", false),
            mount(2, "/layer", "ext4", true),
            mount(3, "/image", "erofs", true),
            mount(4, "/run", "tmpfs", false),
            mount(5, "/merged", "overlay", false),
        ];
        assert_eq!(targets(mounts, Path::new("/")), []);
    }
}
