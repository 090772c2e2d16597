//! The mounts of a root as containerd hands them over, divided between host and guest: those of folders are the host's,
//! whose result is shared; those of images, and templates about them, are the guest's. Pure.

use std::path::PathBuf;

use vminitd_api::containerd::api::Mount;

use super::{upper, RootfsError, TAG};
use crate::vm::Disk;

/// What the host mounts; nothing else has a snapshotter that is not about devices.
const OF_THE_HOST: [&str; 2] = ["overlay", "bind"];
/// What is on images and block devices, and on nothing that others mount at the same time.
const ON_DISK: [&str; 6] = ["erofs", "ext2", "ext3", "ext4", "squashfs", "xfs"];
/// Of these, what cannot be written to anyhow.
const NEVER_WRITTEN: [&str; 2] = ["erofs", "squashfs"];
/// What begins a template, see docs/PROTOCOL.md, "The root file system".
const TEMPLATE: &str = "{{";

/// What the guest does before a mount; all else before the slash of a type is containerd's to do.
const TRANSFORMS: [&str; 2] = ["format", "mkdir"];
/// Options that no guest takes: its Create finds devices by a mount's source only, and has neither dm-verity nor maps of
/// ids (docs/PROTOCOL.md, "The root file system").
const NOT_OF_THE_GUEST: [&str; 4] = ["device=", "X-containerd.dmverity=", "uidmap=", "gidmap="];

/// Who makes a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Maker {
    Host,
    /// The guest, from a disk that is made of the source.
    GuestFromDisk,
    /// The guest, from what it has mounted before.
    Guest,
}

/// Whether the host makes the whole root.
pub(super) fn all_of_the_host(mounts: &[Mount]) -> bool {
    mounts.iter().all(|mount| maker(mount) == Some(Maker::Host))
}

/// Which of the guest's mounts the share is: the one before the last. Templates refer to earlier mounts by their index,
/// and the last is the root, so that all of them mean what they did.
pub(super) fn share_index(mounts: &[Mount]) -> usize {
    match all_of_the_host(mounts) {
        true => 0,
        false => mounts.len() - 1,
    }
}

/// What the guest mounts when the root is in the share.
pub(super) fn shared_root(read_only: bool) -> Vec<Mount> {
    let options = ["rbind", if read_only { "ro" } else { "rw" }].map(str::to_owned);
    let root = Mount {
        type_: "format/bind".into(),
        source: "{{ mount 0 }}/rootfs".into(),
        options: options.into(),
        ..Default::default()
    };
    vec![share(), root]
}

/// What there is of a root that is on disks.
#[derive(Debug, Default)]
pub(super) struct DiskRoot {
    pub disks: Vec<Disk>,
    /// The folder of the host that is written to, if there is one: the share has it as [`upper::FOLDER`].
    pub upper: Option<PathBuf>,
    pub guest_mounts: Vec<Mount>,
}

/// Divides a root that is on disks.
pub(super) fn disk_root(mounts: &[Mount]) -> Result<DiskRoot, RootfsError> {
    let mut root = DiskRoot::default();
    let place = share_index(mounts);
    for (index, mount) in mounts.iter().enumerate() {
        match maker(mount).ok_or_else(|| RootfsError::MountType(mount.type_.clone()))? {
            Maker::Host => return Err(mixed(mount, mounts)),
            Maker::GuestFromDisk => {
                refuse_options(mount, "")?;
                let disk = disk(mount, index);
                root.guest_mounts.push(from_disk(mount, &disk));
                root.disks.push(disk);
            }
            Maker::Guest => {
                let mut mount = mount.clone();
                // Only the last comes after the share, and can name it.
                if index == place {
                    (mount, root.upper) = upper::into_share(&mount, place)?;
                }
                refuse_options(&mount, &mount.source)?;
                root.guest_mounts.push(mount);
            }
        }
    }
    root.guest_mounts.insert(place, share());
    Ok(root)
}

fn share() -> Mount {
    Mount { type_: "virtiofs".into(), source: TAG.into(), ..Default::default() }
}

/// None if it is of a type that neither can mount.
fn maker(mount: &Mount) -> Option<Maker> {
    let (transforms, kind) = mount.type_.rsplit_once('/').unwrap_or(("", &mount.type_));
    if !transforms.is_empty() && !transforms.split('/').all(|name| TRANSFORMS.contains(&name)) {
        return None;
    }
    match (ON_DISK.contains(&kind), transforms) {
        (true, _) if !mount.source.contains(TEMPLATE) => Some(Maker::GuestFromDisk),
        (true, _) => Some(Maker::Guest),
        (false, "") => is_of_the_host(mount).then_some(Maker::Host),
        (false, _) => Some(Maker::Guest),
    }
}

fn is_of_the_host(mount: &Mount) -> bool {
    let is_bind = |option: &str| option == "bind" || option == "rbind";
    OF_THE_HOST.contains(&mount.type_.as_str()) || words(mount).any(is_bind)
}

fn words(mount: &Mount) -> impl Iterator<Item = &str> {
    mount.options.iter().flat_map(|entry| entry.split(','))
}

fn mixed(host: &Mount, mounts: &[Mount]) -> RootfsError {
    let guest = mounts.iter().find(|mount| maker(mount) != Some(Maker::Host));
    let guest = guest.map(|mount| mount.type_.clone()).unwrap_or_default();
    RootfsError::Mixed { host: host.type_.clone(), guest }
}

/// Besides options that no guest takes: a path that no template begins is one of the host, where the guest would find
/// nothing, or something else.
fn refuse_options(mount: &Mount, source: &str) -> Result<(), RootfsError> {
    let unknown = |word: &&str| NOT_OF_THE_GUEST.iter().any(|option| word.starts_with(option));
    if let Some(word) = words(mount).find(unknown) {
        return Err(RootfsError::MountOption(word.to_owned()));
    }
    let values = words(mount).filter_map(|option| option.split_once('=')).map(|(_, value)| value);
    let mut paths = values.flat_map(|value| value.split(':')).chain([source]);
    match paths.find(|path| path.starts_with('/')) {
        Some(path) => Err(RootfsError::HostPath { kind: mount.type_.clone(), path: path.to_owned() }),
        None => Ok(()),
    }
}

/// Serials have at most 20 bytes; indices, of which the guest takes 512, have three.
fn disk(mount: &Mount, index: usize) -> Disk {
    let kind = mount.type_.rsplit('/').next().unwrap_or_default();
    let asked = words(mount).filter(|option| ["ro", "rw"].contains(option)).last() == Some("ro");
    Disk {
        path: mount.source.clone().into(),
        serial: format!("rootfs{index}"),
        read_only: asked || NEVER_WRITTEN.contains(&kind),
    }
}

/// The same of a disk, which needs no loop device.
fn from_disk(mount: &Mount, disk: &Disk) -> Mount {
    let kept = |entry: &String| {
        let kept: Vec<_> = entry.split(',').filter(|option| *option != "loop").collect();
        kept.join(",")
    };
    let options = mount.options.iter().map(kept).filter(|entry| !entry.is_empty()).collect();
    Mount { source: format!("serial:{}", disk.serial), options, ..mount.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, source: &str, options: &[&str]) -> Mount {
        let options = options.iter().map(|option| option.to_string()).collect();
        Mount { type_: kind.into(), source: source.into(), options, ..Default::default() }
    }

    /// Disks are written as `serial path`, with `ro` behind those that are read-only.
    fn check(mounts: &[Mount], disks: &[&str], of_the_guest: &[Mount]) {
        let DiskRoot { disks: found, guest_mounts: guest, upper } = disk_root(mounts).unwrap();
        assert_eq!(upper, None);
        let text = |disk: &Disk| {
            let read_only = if disk.read_only { " ro" } else { "" };
            format!("{} {}{read_only}", disk.serial, disk.path.display())
        };
        assert_eq!(found.iter().map(text).collect::<Vec<_>>(), disks);
        assert_eq!(guest, of_the_guest);
        assert_eq!(guest[share_index(mounts)].type_, "virtiofs");
    }

    #[test]
    fn an_image_is_a_disk_and_the_share_comes_before_it() {
        check(
            &[mount("ext4", "/images/1", &["loop", "rw,discard"])],
            &["rootfs0 /images/1"],
            &[mount("virtiofs", "share", &[]), mount("ext4", "serial:rootfs0", &["rw,discard"])],
        );
    }

    #[test]
    fn layers_on_images_keep_their_indices() {
        let target = Mount { target: "/x".into(), ..mount("mkdir/ext4", "/images/rw", &["rw,loop,nodev"]) };
        let shown = Mount { target: "/x".into(), ..mount("mkdir/ext4", "serial:rootfs2", &["rw,nodev"]) };
        let overlay = mount(
            "format/mkdir/overlay",
            "overlay",
            &[
                "X-containerd.mkdir.path={{ mount 2 }}/upper:0755",
                "lowerdir={{ overlay 0 1 }}",
                "upperdir={{ mount 2 }}/upper",
            ],
        );
        check(
            &[
                mount("erofs", "/images/1", &["ro", "loop"]),
                mount("ext4", "/dev/mapper/x", &["ro"]),
                target,
                overlay.clone(),
            ],
            &["rootfs0 /images/1 ro", "rootfs1 /dev/mapper/x ro", "rootfs2 /images/rw"],
            &[
                mount("erofs", "serial:rootfs0", &["ro"]),
                mount("ext4", "serial:rootfs1", &["ro"]),
                shown,
                mount("virtiofs", "share", &[]),
                overlay,
            ],
        );
    }

    #[test]
    fn a_disk_is_read_only_by_its_last_word_or_its_nature() {
        for (kind, options, read_only) in [
            ("ext4", &["ro"][..], true),
            ("ext4", &["ro", "rw"], false),
            ("xfs", &["rw,ro"], true),
            ("xfs", &["noro"], false),
            ("erofs", &[], true),
            ("format/squashfs", &["rw"], true),
        ] {
            let disks = disk_root(&[mount(kind, "/image", options)]).unwrap().disks;
            assert_eq!(disks[0].read_only, read_only, "{kind} {options:?}");
        }
    }

    #[test]
    fn a_template_of_an_image_needs_no_disk_of_its_own() {
        let part = mount("format/ext4", "{{ source 0 }}1", &[]);
        check(
            &[mount("erofs", "/image", &[]), part.clone()],
            &["rootfs0 /image ro"],
            &[mount("erofs", "serial:rootfs0", &[]), mount("virtiofs", "share", &[]), part],
        );
    }

    #[test]
    fn layers_on_images_beneath_folders_of_the_host_are_written_in_the_share() {
        let layers = ["/images/2", "/images/1"].map(|image| mount("erofs", image, &["ro", "loop"]));
        let overlay = |place: &str| {
            let written = ["work", "fs"].map(|name| format!("{place}/{name}"));
            let options = [format!("workdir={}", written[0]), format!("upperdir={}", written[1])];
            mount(
                "format/mkdir/overlay",
                "overlay",
                &[&options[0], &options[1], "lowerdir={{ overlay 0 1 }}"],
            )
        };
        let root = disk_root(&[layers.as_slice(), &[overlay("/snapshots/7")]].concat()).unwrap();
        assert_eq!(root.upper, Some("/snapshots/7".into()));
        assert_eq!(root.disks.len(), 2);
        assert_eq!(root.guest_mounts[2], share());
        assert_eq!(root.guest_mounts[3], overlay("{{ mount 2 }}/upper"));
    }

    #[test]
    fn what_neither_side_can_mount_is_refused_by_name() {
        let erofs = || mount("erofs", "/image", &[]);
        let template = |option| mount("format/overlay", "overlay", &["lowerdir={{ mount 0 }}", option]);
        for (mounts, text) in [
            (vec![mount("btrfs", "/dev/x", &[])], "root of type \"btrfs\""),
            (vec![erofs(), mount("overlay", "overlay", &[])], "host's \"overlay\" and the guest's \"erofs\""),
            (vec![mount("none", "/a", &["rbind"]), erofs()], "host's \"none\" and the guest's \"erofs\""),
            (vec![mount("mkfs/ext4", "/image", &[])], "root of type \"mkfs/ext4\""),
            (vec![erofs(), template("upperdir=/")], "overlay in the guest: / is on the host"),
            (vec![erofs(), template("upperdir=/1/fs"), erofs()], "/1/fs is on the host"),
            (vec![erofs(), template("lowerdir={{ mount 0 }}:/layer")], "/layer is on the host"),
            (vec![mount("erofs", "/image", &["ro,device=/other"]), erofs()], "option \"device=/other\""),
            (
                vec![mount("erofs", "/image", &["X-containerd.dmverity=/m"])],
                "option \"X-containerd.dmverity=/m\"",
            ),
            (vec![erofs(), template("uidmap=0:1:2")], "option \"uidmap=0:1:2\""),
            (vec![erofs(), mount("format/bind", "/snapshots/1", &["rbind"])], "/snapshots/1 is on the host"),
        ] {
            let refused = disk_root(&mounts).unwrap_err().to_string();
            assert!(refused.contains(text), "{refused}");
        }
    }
}
