//! Disks for tests: a small image to attach, and what is attached at the moment.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::*;

/// An erofs of one block, with nothing in its root (Documentation/filesystems/erofs.rst and erofs_fs.h in the kernel).
pub(super) fn image() -> tempfile::NamedTempFile {
    const BLOCK: usize = 4096;
    const SUPERBLOCK: usize = 1024;
    const ROOT_NID: u16 = 36;
    let mut image = vec![0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(SUPERBLOCK, &0xE0F5_E1E2_u32.to_le_bytes());
    put(SUPERBLOCK + 12, &[12]);
    put(SUPERBLOCK + 14, &ROOT_NID.to_le_bytes());
    put(SUPERBLOCK + 16, &1_u64.to_le_bytes());
    put(SUPERBLOCK + 36, &1_u32.to_le_bytes());
    // A compact inode whose data follow it: a directory of two links and 27 bytes.
    let inode = usize::from(ROOT_NID) * 32;
    put(inode, &(2_u16 << 1).to_le_bytes());
    put(inode + 4, &0o040_755_u16.to_le_bytes());
    put(inode + 6, &2_u16.to_le_bytes());
    put(inode + 8, &27_u32.to_le_bytes());
    put(inode + 20, &1_u32.to_le_bytes());
    // Two entries (node, where the name is, type), then the names.
    for (entry, name_at) in [24_u16, 25].into_iter().enumerate() {
        let at = inode + 32 + entry * 12;
        put(at, &u64::from(ROOT_NID).to_le_bytes());
        put(at + 8, &name_at.to_le_bytes());
        put(at + 10, &[2]);
    }
    put(inode + 32 + 24, b"...");
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), image).unwrap();
    file
}

/// Whether this kernel has the file system; the test says so if not.
pub(super) fn has(kind: &str) -> bool {
    let known = fs::read_to_string("/proc/filesystems").unwrap();
    let has = known.lines().any(|line| line.split_whitespace().last() == Some(kind));
    if !has {
        eprintln!("skipped: this kernel has no {kind}");
    }
    has
}

pub(super) fn can_loop() -> bool {
    let can = Path::new("/dev/loop-control").exists();
    if !can {
        eprintln!("skipped: this kernel has no loop devices");
    }
    can && has("erofs")
}

pub(super) fn is_attached(file: &Path) -> bool {
    let backing = |disk: fs::DirEntry| fs::read_to_string(disk.path().join("loop/backing_file")).ok();
    let attached = fs::read_dir("/sys/block").unwrap().flatten().filter_map(backing);
    attached.into_iter().any(|backing| Path::new(backing.trim_end()) == file)
}

/// The kernel detaches a file when the last user of its device has gone, which may be a moment after the unmount.
pub(super) fn assert_detached(file: &Path) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while is_attached(file) {
        assert!(Instant::now() < deadline, "{} is still attached", file.display());
        std::thread::yield_now();
    }
}

#[test]
fn a_file_is_mounted_by_a_loop_device_that_ends_with_the_mount() {
    if !can_loop() {
        return;
    }
    let image = image();
    in_bundle(|bundle| {
        let source = image.path().to_str().unwrap();
        let assembled = now(&[entry("erofs", source, "", &["loop", "ro"])], bundle).unwrap();
        assert!(is_attached(image.path()));
        let rootfs = bundle.join("rootfs");
        assert_eq!(fs::read_dir(&rootfs).unwrap().count(), 0);
        assert_eq!(fs::create_dir(rootfs.join("x")).unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
        assembled.unwind().unwrap();
        assert_detached(image.path());
    });
}

#[test]
fn what_cannot_be_mounted_by_a_loop_device_is_not_left_attached() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    in_bundle(|bundle| {
        fs::write(path("zeros"), [0; 8192]).unwrap();
        nix::unistd::mkfifo(path("pipe").as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let refused = |source: &str| now(&[entry("erofs", source, "", &["loop", "ro"])], bundle).unwrap_err();
        for source in [path("missing"), path("pipe"), path("")] {
            assert!(matches!(refused(&source), RootfsError::Loop { file, .. } if file == source));
        }
        if can_loop() {
            assert!(matches!(refused(&path("zeros")), RootfsError::Mount { .. }));
            assert_detached(Path::new(&path("zeros")));
        }
    });
}
