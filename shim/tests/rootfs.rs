//! Facts about what a guest is given of the host's files, as root, in mount namespaces of the tests' own: what is in
//! the share, what can be written, and that nothing is left.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{chown, symlink, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::mount::{mount, umount2, MntFlags, MsFlags};
use nix::sys::stat::{makedev, mknod, Mode, SFlag};
use nix::unistd::mkfifo;
use rustix::fs::{getxattr, setxattr, XattrFlags};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use vminit_shim::api::containerd::api::Mount;
use vminit_shim::plan::{FileKind, Point, ReadOnly, Root, Volume};
use vminit_shim::rootfs::{kind_of, own_namespace, stage, volume_in_guest, Request, RootfsError, Staged};

/// A place of the test's own, on a tmpfs in a mount namespace of its own.
struct Room {
    path: PathBuf,
    mounts: Vec<Mount>,
    volumes: Vec<Volume>,
    root: Root,
    _dir: TempDir,
}

impl Drop for Room {
    fn drop(&mut self) {
        // Whatever a failed test left there: the folder beneath is to go.
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
    }
}

impl Room {
    /// With a bundle whose root holds `file`.
    fn new() -> Room {
        assert!(nix::unistd::geteuid().is_root(), "it takes root to mount");
        own_namespace().expect("make a mount namespace");
        let dir = TempDir::new().expect("make a folder");
        let path = dir.path().canonicalize().expect("find a folder");
        tmpfs(&path, MsFlags::empty());
        let root = Root { path: "rootfs".into(), read_only: false, points: Vec::new() };
        let room = Room { path, mounts: Vec::new(), volumes: Vec::new(), root, _dir: dir };
        room.dir("run");
        room.file("bundle/rootfs/file");
        room
    }

    fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn dir(&self, name: &str) -> PathBuf {
        let path = self.at(name);
        fs::create_dir_all(&path).expect("make a folder");
        path
    }

    /// A file that holds its name.
    fn file(&self, name: &str) -> PathBuf {
        let path = self.at(name);
        let parent = path.parent().expect("it is in the room");
        fs::create_dir_all(parent).expect("make a folder");
        fs::write(&path, name).expect("write a file");
        path
    }

    fn volume(&mut self, source: &Path, read_only: ReadOnly) {
        let (source, destination) = (source.to_owned(), "/in/container".to_owned());
        self.volumes.push(Volume { directory: source.is_dir(), source, destination, read_only });
    }

    fn overlay(&mut self, layers: &[PathBuf]) {
        let layers: Vec<_> = layers.iter().map(|layer| layer.to_str().expect("the path is a text")).collect();
        let [upper, work] = ["upper", "work"].map(|name| self.dir(name));
        let options = vec![
            format!("workdir={}", work.display()),
            format!("upperdir={}", upper.display()),
            format!("lowerdir={}", layers.join(":")),
        ];
        self.mounts.push(entry("overlay", "overlay", options));
    }

    fn stage(&self) -> Result<Staged, RootfsError> {
        let (dir, bundle) = (self.at("run"), self.at("bundle"));
        let (root, volumes, mounts) = (&self.root, &self.volumes, &self.mounts);
        stage(&Request { dir: &dir, bundle: &bundle, root, volumes, mounts })
    }

    fn refusal(&self) -> String {
        let before = mountinfo();
        let refused = self.stage().expect_err("it is to be refused").to_string();
        assert_eq!(mountinfo(), before, "{refused}");
        refused
    }
}

fn entry(kind: &str, source: &str, options: Vec<String>) -> Mount {
    Mount { type_: kind.into(), source: source.into(), options, ..Default::default() }
}

fn bind(source: &Path, options: &[&str]) -> Mount {
    let options = options.iter().map(|option| option.to_string()).collect();
    entry("bind", source.to_str().expect("the path is a text"), options)
}

fn tmpfs(at: &Path, flags: MsFlags) {
    mount(Some("none"), at, Some("tmpfs"), flags, Some("mode=755")).expect("mount a tmpfs");
}

fn mountinfo() -> String {
    fs::read_to_string("/proc/thread-self/mountinfo").expect("read the mounts")
}

fn is_read_only(result: io::Result<()>) -> bool {
    match result {
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ReadOnlyFilesystem, "{error}");
            true
        }
        Ok(()) => false,
    }
}

fn read(path: PathBuf) -> String {
    fs::read_to_string(path).expect("read a file")
}

#[test]
fn writes_to_an_overlay_go_to_its_upper_layer() {
    let mut room = Room::new();
    room.file("1/both");
    room.file("2/both");
    room.file("2/lower");
    room.overlay(&[room.at("1"), room.at("2")]);
    let staged = room.stage().unwrap();
    let root = staged.root().unwrap();
    assert_eq!(root, staged.share().join("rootfs"));
    assert_eq!([read(root.join("both")), read(root.join("lower"))], ["1/both", "2/lower"]);
    fs::write(root.join("new"), "of the guest").unwrap();
    assert_eq!(read(room.at("upper/new")), "of the guest");
}

#[test]
fn a_hundred_layers_with_long_paths_are_stacked() {
    let mut room = Room::new();
    let long = "x".repeat(100);
    let name = |n: usize| format!("{long}/{n}/fs");
    for n in 0..100 {
        room.file(&format!("{}/of {n}", name(n)));
        room.file(&format!("{}/same", name(n)));
    }
    room.overlay(&(0..100).map(|n| room.at(&name(n))).collect::<Vec<_>>());
    let staged = room.stage().unwrap();
    let root = staged.root().unwrap();
    assert_eq!(fs::read_dir(root).unwrap().count(), 101);
    assert!(read(root.join("same")).ends_with("/0/fs/same"));
}

#[test]
fn a_bind_keeps_the_flags_of_its_source_and_adds_its_own() {
    let mut room = Room::new();
    let source = room.dir("source");
    tmpfs(&source, MsFlags::MS_NODEV);
    room.mounts.push(bind(&source, &["rbind", "ro", "nosuid"]));
    let staged = room.stage().unwrap();
    let point = staged.root().unwrap().to_str().unwrap().to_owned();
    let table = mountinfo();
    let line = table.lines().find(|line| line.split(' ').nth(4) == Some(&point)).unwrap();
    let flags = line.split(' ').nth(5).unwrap();
    assert_eq!(flags, "ro,nosuid,nodev,relatime");
    assert!(!is_read_only(fs::write(source.join("file"), "")));
}

#[test]
fn later_mounts_go_beneath_earlier_ones_and_their_symlinks_stay_there() {
    let mut room = Room::new();
    let [outer, inner] = ["outer", "inner"].map(|name| room.dir(name));
    room.file("inner/file");
    room.dir("outer/run/place");
    symlink("/run", outer.join("link")).unwrap();
    let target = "/../link/place".to_owned();
    room.mounts = vec![bind(&outer, &["rbind"]), Mount { target, ..bind(&inner, &["rbind"]) }];
    let staged = room.stage().unwrap();
    assert_eq!(read(staged.root().unwrap().join("run/place/file")), "inner/file");
}

#[test]
fn without_mounts_the_root_is_the_folder_that_the_spec_names() {
    let mut room = Room::new();
    tmpfs(&room.dir("bundle/rootfs/sub"), MsFlags::empty());
    room.file("bundle/rootfs/sub/file");
    for path in [PathBuf::from("rootfs"), room.at("bundle/rootfs")] {
        room.root.path = path;
        let mut staged = room.stage().unwrap();
        let root = staged.root().unwrap().to_owned();
        assert_eq!(read(root.join("file")), "bundle/rootfs/file");
        assert_eq!(read(root.join("sub/file")), "bundle/rootfs/sub/file");
        fs::write(root.join("new"), "of the guest").unwrap();
        assert_eq!(read(room.at("bundle/rootfs/new")), "of the guest");
        staged.unmount().unwrap();
    }
    for (path, why) in [("nothing", "No such file"), ("rootfs/file", "Not a directory")] {
        room.root.path = path.into();
        let refused = room.refusal();
        assert!(refused.starts_with("open the root ") && refused.contains(why), "{refused}");
    }
}

#[test]
fn the_guest_is_told_of_the_share_and_of_the_root_in_it() {
    let mut room = Room::new();
    for (read_only, word) in [(false, "rw"), (true, "ro")] {
        room.root.read_only = read_only;
        let mut staged = room.stage().unwrap();
        let options = ["rbind", word].map(str::to_owned).to_vec();
        let root = entry("format/bind", "{{ mount 0 }}/rootfs", options);
        assert_eq!(staged.guest_mounts(), [entry("virtiofs", "share", Vec::new()), root]);
        assert!(staged.disks().is_empty());
        staged.unmount().unwrap();
    }
    assert_eq!(volume_in_guest("c1", &room.mounts, 7), "/run/bundles/c1/mounts/0/volumes/7");
}

#[test]
fn a_root_on_disks_leaves_only_volumes_in_the_share() {
    let mut room = Room::new();
    let images = ["image", "other"].map(|name| room.file(name));
    let folder = room.dir("folder");
    room.volume(&folder, ReadOnly::No);
    let disk = |image: &Path| entry("erofs", image.to_str().unwrap(), vec!["loop".into()]);
    room.mounts = images.iter().map(|image| disk(image)).collect();
    let staged = room.stage().unwrap();
    assert_eq!(staged.root(), None);
    assert_eq!(staged.disks().iter().map(|disk| disk.path.clone()).collect::<Vec<_>>(), images);
    let kinds: Vec<_> = staged.guest_mounts().iter().map(|mount| mount.type_.as_str()).collect();
    assert_eq!(kinds, ["erofs", "virtiofs", "erofs"]);
    assert_eq!(volume_in_guest("c1", &room.mounts, 0), "/run/bundles/c1/mounts/1/volumes/0");
    assert_eq!(fs::read_dir(staged.share()).unwrap().count(), 1);
    assert!(!is_read_only(fs::write(staged.share().join("volumes/0/new"), "")));
    drop(staged);
    for (image, why) in [(room.dir("folder"), "neither a file"), (room.at("none"), "No such file")] {
        room.mounts = vec![disk(&image)];
        let refused = room.stage().unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
}

#[test]
fn what_a_root_on_disks_writes_to_on_the_host_is_in_the_share_on_one_mount() {
    let mut room = Room::new();
    let image = room.file("image");
    let [upper, work] = ["snapshot/fs", "snapshot/work"].map(|name| room.dir(name));
    fs::set_permissions(&upper, fs::Permissions::from_mode(0o751)).unwrap();
    let options = [format!("upperdir={}", upper.display()), format!("workdir={}", work.display())];
    let overlay = entry("format/mkdir/overlay", "overlay", options.into());
    room.mounts = vec![entry("erofs", image.to_str().unwrap(), vec!["loop".into()]), overlay];
    let mut staged = room.stage().unwrap();
    let root = staged.guest_mounts().last().unwrap();
    let place = "{{ mount 1 }}/upper";
    assert_eq!(root.options, [format!("upperdir={place}/fs"), format!("workdir={place}/work")]);
    let shared = staged.share().join("upper");
    assert_eq!(fs::metadata(shared.join("fs")).unwrap().mode() & 0o777, 0o751);
    fs::write(shared.join("work/new"), "text").unwrap();
    fs::rename(shared.join("work/new"), shared.join("fs/new")).unwrap();
    assert_eq!(read(upper.join("new")), "text");
    assert!(is_read_only(fs::create_dir(staged.share().join("new"))));
    staged.unmount().unwrap();
    assert!(!shared.join("fs").exists());
}

#[test]
fn nothing_of_a_read_only_root_can_be_written() {
    let mut room = Room::new();
    tmpfs(&room.dir("bundle/rootfs/sub"), MsFlags::empty());
    room.root.read_only = true;
    for layers in [None, Some(room.at("bundle/rootfs"))] {
        layers.into_iter().for_each(|layer| room.overlay(&[layer]));
        let mut staged = room.stage().unwrap();
        let root = staged.root().unwrap();
        for name in ["file", "new", "sub/new"] {
            assert!(is_read_only(fs::write(root.join(name), "")), "{name}");
        }
        assert!(is_read_only(chown(root.join("file"), Some(1), None)));
        staged.unmount().unwrap();
    }
    assert!(!is_read_only(fs::write(room.at("bundle/rootfs/sub/new"), "of the host")));
}

#[test]
fn a_read_only_root_has_what_is_mounted_on_and_only_that() {
    let mut room = Room::new();
    room.dir("lower/run");
    symlink("/run", room.at("lower/link")).unwrap();
    symlink("/nothing/file", room.at("lower/dangling")).unwrap();
    room.overlay(&[room.at("bundle/rootfs"), room.at("lower")]);
    let point = |path: &str, directory| Point { path: path.into(), directory, mode: 0o751 };
    room.root.points = vec![
        point("/", true),
        point("/data/a", true),
        point("/etc/hosts", false),
        point("/x/../../link/b", false),
        point("/file", false),
        point("/dangling", false),
    ];
    for read_only in [false, true] {
        room.root.read_only = read_only;
        let mut staged = room.stage().unwrap();
        let root = staged.root().unwrap();
        let made = ["data/a", "etc/hosts", "link", "nothing"].map(|name| root.join(name).exists());
        assert_eq!(made, [read_only, read_only, true, false]);
        assert_eq!(room.at("upper/run/b").is_file(), read_only);
        assert_eq!(read(root.join("file")), "bundle/rootfs/file");
        assert!(root.join("dangling").is_symlink());
        assert_eq!(room.at("upper/data/a").is_dir(), read_only);
        let mode = |path: &str| fs::metadata(room.at(path)).ok().map(|found| found.mode() & 0o7777);
        let expected = read_only.then_some((0o755, 0o751));
        assert_eq!(mode("upper/data").zip(mode("upper/data/a")), expected);
        staged.unmount().unwrap();
    }
}

#[test]
fn a_read_only_volume_covers_what_is_mounted_beneath_only_if_it_is_recursive() {
    let mut room = Room::new();
    let source = room.dir("source");
    tmpfs(&room.dir("source/sub"), MsFlags::empty());
    let all = [ReadOnly::No, ReadOnly::Yes, ReadOnly::Recursive];
    all.iter().for_each(|read_only| room.volume(&source, *read_only));
    let staged = room.stage().unwrap();
    for (n, expected) in [[false, false], [true, false], [true, true]].iter().enumerate() {
        let volume = staged.share().join("volumes").join(n.to_string());
        let found = ["new", "sub/new"].map(|name| is_read_only(fs::write(volume.join(name), "")));
        assert_eq!(found, *expected, "{:?}", all[n]);
    }
    assert!(!is_read_only(fs::write(source.join("new"), "of the host")));
}

#[test]
fn what_the_host_mounts_later_is_seen_except_in_what_is_all_read_only() {
    let mut room = Room::new();
    mount(None::<&str>, &room.path, None::<&str>, MsFlags::MS_SHARED, None::<&str>).unwrap();
    room.dir("source/later");
    for read_only in [ReadOnly::No, ReadOnly::Yes, ReadOnly::Recursive] {
        room.volume(&room.at("source"), read_only);
    }
    let staged = room.stage().unwrap();
    tmpfs(&room.at("source/later"), MsFlags::empty());
    room.file("source/later/file");
    let seen = |n| staged.share().join(format!("volumes/{n}/later/file")).exists();
    assert_eq!([0, 1, 2].map(seen), [true, true, false]);
}

#[test]
fn a_volume_of_a_read_only_mount_stays_read_only_and_keeps_its_flags() {
    let mut room = Room::new();
    let source = room.dir("source");
    tmpfs(&source, MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV);
    room.volume(&source, ReadOnly::No);
    room.volume(&source, ReadOnly::Yes);
    let staged = room.stage().unwrap();
    for n in ["0", "1"] {
        let volume = staged.share().join("volumes").join(n);
        assert!(is_read_only(fs::write(volume.join("new"), "")));
        let table = mountinfo();
        let line = table.lines().find(|line| line.contains(volume.to_str().unwrap())).unwrap();
        assert!(line.contains(" ro,nosuid,nodev,"), "{line}");
    }
}

#[tokio::test]
async fn what_is_read_only_stays_so_in_a_namespace_of_a_writers_own() {
    let mut room = Room::new();
    let source = room.dir("source");
    room.volume(&source, ReadOnly::Yes);
    let staged = room.stage().unwrap();
    let script = r#"mount -o remount,bind,rw "$0"; > "$0/new""#;
    let mut command = Command::new("unshare");
    let command = command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
    let output = command.arg(staged.share().join("volumes/0")).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("Read-only file system"), "{said}");
    assert_eq!(fs::read_dir(source).unwrap().count(), 0);
}

#[test]
fn no_guest_can_fill_the_hosts_run_through_the_share() {
    let mut room = Room::new();
    room.volume(&room.at("bundle"), ReadOnly::No);
    let staged = room.stage().unwrap();
    for name in ["new", "volumes/new"] {
        assert!(is_read_only(fs::write(staged.share().join(name), "")), "{name}");
    }
}

#[test]
fn files_and_folders_are_live_on_both_sides() {
    let mut room = Room::new();
    let (file, folder) = (room.file("file"), room.dir("folder"));
    room.volume(&file, ReadOnly::No);
    room.volume(&folder, ReadOnly::No);
    let staged = room.stage().unwrap();
    let [in_file, in_folder] = ["0", "1"].map(|n| staged.share().join("volumes").join(n));
    for (written, read_back) in [(&file, &in_file), (&in_file, &file)] {
        fs::write(written, format!("{}", written.display())).unwrap();
        assert_eq!(read(read_back.clone()), written.to_str().unwrap());
    }
    fs::write(folder.join("a"), "of the host").unwrap();
    assert_eq!(read(in_folder.join("a")), "of the host");
    fs::remove_file(in_folder.join("a")).unwrap();
    assert!(!folder.join("a").exists());
}

#[test]
fn owners_attributes_links_and_whiteouts_are_the_same_in_the_share() {
    let mut room = Room::new();
    room.file("lower/gone");
    let root = room.dir("upper");
    let file = room.file("upper/file");
    let [same, device, whiteout] = ["same", "device", "gone"].map(|name| root.join(name));
    chown(&file, Some(4_000_000_000), Some(70_000)).unwrap();
    fs::hard_link(&file, &same).unwrap();
    mknod(&device, SFlag::S_IFCHR, Mode::S_IRUSR, makedev(1, 3)).unwrap();
    mknod(&whiteout, SFlag::S_IFCHR, Mode::empty(), 0).unwrap();
    // struct vfs_cap_data of linux/capability.h, revision 2: CAP_NET_RAW, permitted and effective.
    let capabilities = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let attributes = [("security.capability", &capabilities[..]), ("trusted.of.ours", b"x")];
    for (name, value) in attributes {
        setxattr(&file, name, value, XattrFlags::empty()).unwrap();
    }
    room.overlay(&[room.at("lower")]);
    room.volume(&root, ReadOnly::No);
    let staged = room.stage().unwrap();
    let volume = staged.share().join("volumes/0");
    for seen in [staged.root().unwrap(), &volume] {
        let status = fs::metadata(seen.join("file")).unwrap();
        assert_eq!((status.uid(), status.gid(), status.nlink()), (4_000_000_000, 70_000, 2));
        assert_eq!(status.ino(), fs::metadata(seen.join("same")).unwrap().ino());
        for (name, value) in attributes {
            let mut read = [0; 64];
            let length = getxattr(seen.join("file"), name, &mut read[..]).unwrap();
            assert_eq!(&read[..length], value, "{name}");
        }
        assert_eq!(fs::metadata(seen.join("device")).unwrap().rdev(), makedev(1, 3));
    }
    assert!(!staged.root().unwrap().join("gone").exists());
    assert!(fs::metadata(volume.join("gone")).unwrap().file_type().is_char_device());
}

#[test]
fn a_source_that_leads_to_what_is_no_file_is_refused_by_name() {
    let mut room = Room::new();
    let _listener = UnixListener::bind(room.at("socket")).unwrap();
    mkfifo(&room.at("fifo"), Mode::S_IRUSR).unwrap();
    mknod(&room.at("device"), SFlag::S_IFCHR, Mode::S_IRUSR, makedev(1, 3)).unwrap();
    mount(Some("none"), &room.dir("proc"), Some("proc"), MsFlags::empty(), None::<&str>).unwrap();
    let link = room.at("link");
    for (place, why) in [
        (room.at("socket"), "sockets of the host are"),
        (room.at("fifo"), "FIFOs of the host are"),
        (room.at("device"), "devices of the host are"),
        ("/proc/sys".into(), "what the host's kernel shows is"),
        ("/sys".into(), "what the host's kernel shows is"),
        ("/dev/null".into(), "what the host's kernel shows is"),
        (room.at("proc/sys"), "what the host's kernel shows is"),
        (room.at("proc/version"), "what the host's kernel shows is"),
    ] {
        symlink(&place, &link).unwrap();
        room.volumes.clear();
        room.volume(&link, ReadOnly::No);
        let expected =
            format!("cannot bind {} to /in/container: {why} not supported in a microVM", link.display());
        assert_eq!(room.refusal(), expected, "{place:?}");
        fs::remove_file(&link).unwrap();
    }
}

#[test]
fn the_planner_is_told_what_is_at_the_end_of_a_path() {
    let room = Room::new();
    let _listener = UnixListener::bind(room.at("socket")).unwrap();
    mkfifo(&room.at("fifo"), Mode::S_IRUSR).unwrap();
    room.file("file");
    for (name, kind) in [
        ("file", Some(FileKind::File)),
        ("bundle", Some(FileKind::Directory)),
        ("socket", Some(FileKind::Socket)),
        ("fifo", Some(FileKind::Fifo)),
        ("/dev/null", Some(FileKind::Device)),
        ("nothing", None),
    ] {
        let link = room.at("link");
        symlink(room.at(name), &link).unwrap();
        assert_eq!([kind_of(&room.at(name)), kind_of(&link)], [kind, kind], "{name}");
        fs::remove_file(&link).unwrap();
    }
}

#[test]
fn unmounting_leaves_nothing_and_may_be_repeated() {
    let mut room = Room::new();
    tmpfs(&room.dir("source/sub"), MsFlags::empty());
    room.volume(&room.at("source"), ReadOnly::No);
    room.file("lower/file");
    room.overlay(&[room.at("lower")]);
    let before = mountinfo();
    let mut staged = room.stage().unwrap();
    let busy = File::open(staged.root().unwrap().join("file")).unwrap();
    staged.unmount().unwrap();
    assert_eq!(mountinfo(), before);
    staged.unmount().unwrap();
    drop(busy);
    // The folders are there for another try; without mounts, nothing of a volume is removed with them.
    room.stage().unwrap().unmount().unwrap();
    fs::remove_dir_all(room.at("run")).unwrap();
    staged.unmount().unwrap();
    assert!(room.at("source/sub").exists());
}

#[test]
fn a_failure_half_way_leaves_nothing() {
    let mut room = Room::new();
    let source = room.dir("source");
    room.volume(&source, ReadOnly::No);
    room.mounts = vec![bind(&source, &["rbind"])];
    room.overlay(&[room.at("missing")]);
    let refused = room.refusal();
    assert!(refused.starts_with("mount the root's overlay from overlay: "), "{refused}");
    room.mounts.clear();
    room.volume(&room.at("missing"), ReadOnly::No);
    let refused = room.refusal();
    assert!(refused.contains("there is no such file or directory"), "{refused}");
}

#[tokio::test]
async fn a_namespace_that_was_made_later_sees_the_mounts_and_their_end() {
    let mut room = Room::new();
    room.volume(&room.at("bundle"), ReadOnly::No);
    let mut staged = room.stage().unwrap();
    let mut command = Command::new("unshare");
    let script = r#"ls "$0"; echo; read go; ls "$0""#;
    let command = command.args(["--mount", "--propagation", "slave", "sh", "-c", script]);
    let command = command.arg(staged.root().unwrap()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut seen = [0; 6];
    out.read_exact(&mut seen).await.unwrap();
    assert_eq!(&seen, b"file\n\n");
    staged.unmount().unwrap();
    child.stdin.take().unwrap().write_all(b"\n").await.unwrap();
    let mut rest = String::new();
    out.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "");
    assert!(child.wait().await.unwrap().success());
}
