//! Extras disks as files, extracted into folders that stand for the root.

use std::os::unix::fs::{symlink, MetadataExt};

use tempfile::TempDir;

use super::super::tests::failures_of;
use super::tar::tests::{archive, entry};
use super::*;
use crate::config::ExtrasDisk;
use crate::sys::mount::{mount, MsFlags};
use crate::sys::testing::in_private_mounts;

/// A root and a disk.
struct Guest(TempDir);

impl Guest {
    fn with_disk(bytes: &[u8]) -> Guest {
        let guest = Guest(tempfile::tempdir().unwrap());
        fs::create_dir(guest.root()).unwrap();
        guest.insert(bytes);
        guest
    }

    fn insert(&self, bytes: &[u8]) {
        fs::write(self.0.path().join("disk"), bytes).unwrap();
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("root")
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_else(|error| error.to_string())
    }

    fn mode(&self, path: &str) -> u32 {
        fs::symlink_metadata(self.at(path)).unwrap().mode() & 0o7777
    }

    /// How many failures there were.
    fn boot(&self, force: bool) -> usize {
        failures_of(|boot| extract_once(boot, &self.0.path().join("disk"), &self.root(), force))
    }
}

fn file(path: &str, content: &str) -> Vec<u8> {
    entry(path, b'0', 0o644, content.as_bytes())
}

#[test]
fn files_are_extracted_with_their_modes_and_the_directories_they_need() {
    let guest = Guest::with_disk(&archive(&[
        entry("/etc/app/config", b'0', 0o640, b"content"),
        entry("/bin/tool", b'7', 0o6755, b"tool"),
        entry("/all", 0, 0o777, b""),
        entry("/data", b'5', 0o1777, b""),
        file("/a/./b//../c", "cleaned"),
        file("/../up", "up"),
    ]));
    assert_eq!(guest.boot(false), 0);
    assert_eq!((guest.text("etc/app/config").as_str(), guest.mode("etc/app/config")), ("content", 0o640));
    assert_eq!((guest.mode("etc"), guest.mode("etc/app")), (0o755, 0o755));
    assert_eq!((guest.text("bin/tool").as_str(), guest.mode("bin/tool")), ("tool", 0o6755));
    assert_eq!((guest.mode("all"), guest.mode("data")), (0o777, 0o1777));
    assert_eq!((guest.text("a/c").as_str(), guest.text("up").as_str()), ("cleaned", "up"));
    assert!(!guest.at("a/b").exists());
    assert_eq!(guest.text(MARKER), "done\n");
}

#[test]
fn extras_are_extracted_once_unless_forced() {
    let guest = Guest::with_disk(&archive(&[file("/f", "first")]));
    assert_eq!(guest.boot(false), 0);
    guest.insert(&archive(&[file("/f", "second")]));
    assert_eq!((guest.boot(false), guest.text("f").as_str()), (0, "first"));
    assert_eq!((guest.boot(true), guest.text("f").as_str()), (0, "second"));
}

#[test]
fn what_is_no_file_is_left_out_and_told_of_while_the_rest_is_extracted() {
    let guest = Guest::with_disk(&archive(&[
        entry("/hard", b'1', 0o644, b""),
        entry("/soft", b'2', 0o644, b""),
        entry("/device", b'3', 0o644, b""),
        entry("/fifo", b'6', 0o644, b""),
        file("relative", "relative"),
        file("/", "root"),
        file("/..", "above"),
        file("/f", "file"),
    ]));
    assert_eq!(guest.boot(false), 7);
    let mut names: Vec<_> =
        fs::read_dir(guest.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["f", "run"]);
    assert_eq!(guest.text("f"), "file");
}

#[test]
fn many_that_are_left_out_are_not_told_of_one_by_one() {
    let links = vec![entry("/link", b'2', 0o644, b""); 10_000];
    let guest = Guest::with_disk(&archive(&links));
    assert_eq!(guest.boot(false) as u64, REPORTED_MAX + 1);
}

#[test]
fn ten_thousand_files_are_extracted() {
    let files: Vec<_> = (0..10_000).map(|n| file(&format!("/many/{}/{n}", n % 100), "x")).collect();
    let guest = Guest::with_disk(&[]);
    // In memory, as the root of a guest is: on a disk this takes a while.
    in_private_mounts(|| {
        mount("t", guest.0.path(), "tmpfs", MsFlags::empty(), "").unwrap();
        fs::create_dir(guest.root()).unwrap();
        guest.insert(&archive(&files));
        assert_eq!(guest.boot(false), 0);
        assert_eq!(fs::read_dir(guest.at("many/42")).unwrap().count(), 100);
    });
}

#[test]
fn symlinks_of_the_image_are_followed_within_the_root_and_a_file_replaces_one() {
    let guest = Guest::with_disk(&archive(&[
        file("/bin/tool", "tool"),
        file("/out/escaped", "inside"),
        file("/etc/link", "replaced"),
    ]));
    let outside = guest.0.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::create_dir_all(guest.at("usr/bin")).unwrap();
    fs::create_dir(guest.at("etc")).unwrap();
    symlink("usr/bin", guest.at("bin")).unwrap();
    symlink("../outside", guest.at("out")).unwrap();
    fs::write(guest.at("etc/target"), "kept").unwrap();
    symlink("target", guest.at("etc/link")).unwrap();
    // Where the symlink leads as seen from the root is nowhere, and nothing is made in its place.
    assert_eq!(guest.boot(false), 1);
    assert_eq!(guest.text("usr/bin/tool"), "tool");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!((guest.text("etc/link").as_str(), guest.text("etc/target").as_str()), ("replaced", "kept"));
    assert!(fs::symlink_metadata(guest.at("etc/link")).unwrap().is_file());
}

#[test]
fn a_file_in_the_place_of_a_directory_or_the_reverse_is_left_out_and_leaves_nothing_behind() {
    let entries = [file("/dir", "x"), file("/file/below", "x"), entry("/file", b'5', 0o755, b"")];
    let guest = Guest::with_disk(&archive(&entries));
    fs::create_dir_all(guest.at("dir")).unwrap();
    fs::write(guest.at("file"), "kept").unwrap();
    assert_eq!(guest.boot(false), 3);
    assert_eq!(guest.text("file"), "kept");
    assert!(!guest.at(TEMPORARY).exists());
}

#[test]
fn an_archive_that_is_cut_off_leaves_whole_files_and_is_told_of() {
    let whole = archive(&[file("/first", "first"), file("/second", &"2".repeat(2000))]);
    for length in (1024..whole.len() - 1024).step_by(100) {
        let guest = Guest::with_disk(&whole[..length]);
        fs::write(guest.at("second"), "old").unwrap();
        assert_eq!(guest.boot(false), 1);
        let second = guest.text("second");
        assert!(second == "old" || second.len() == 2000, "{length}: {second:?}");
        assert_eq!(guest.text("first"), "first");
        assert!(!guest.at(TEMPORARY).exists() && !guest.at(MARKER).exists());
    }
}

#[test]
fn a_disk_without_an_archive_is_refused_and_nothing_is_made() {
    for bytes in [&[0; 8192][..], b"\x7fELF", &[]] {
        let guest = Guest::with_disk(bytes);
        assert_eq!(guest.boot(true), 1);
        assert_eq!(fs::read_dir(guest.root()).unwrap().count(), 0);
    }
}

#[test]
fn disks_have_letters_as_the_kernel_gives_them() {
    for (index, name) in [
        (0, "/dev/vda"),
        (25, "/dev/vdz"),
        (26, "/dev/vdaa"),
        (51, "/dev/vdaz"),
        (52, "/dev/vdba"),
        (701, "/dev/vdzz"),
        (702, "/dev/vdaaa"),
        (u16::MAX, "/dev/vdcrxp"),
    ] {
        assert_eq!(device_name(&ExtrasDisk::Index(index)), name);
    }
}
