//! Real mounts in a namespace of the test's own.

mod disks;
mod escapes;
mod failures;
mod overlays;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use super::*;
use crate::sys::mount::MsFlags;
use crate::sys::testing::in_private_mounts;

fn entry(kind: &str, source: &str, target: &str, options: &[&str]) -> Mount {
    let options = options.iter().map(|option| option.to_string()).collect();
    Mount { kind: kind.into(), source: source.into(), target: target.into(), options }
}

/// Runs `body` with an empty bundle; afterwards nothing is mounted in it and no directory is left.
fn in_bundle(body: impl FnOnce(&Path) + Send) {
    let bundle = tempfile::tempdir().unwrap();
    in_private_mounts(|| {
        body(bundle.path());
        assert_eq!(mounts_below(bundle.path()).unwrap(), Vec::<PathBuf>::new());
        assert_eq!(fs::read_dir(bundle.path()).unwrap().count(), 0);
    });
}

fn now(mounts: &[Mount], bundle: &Path) -> Result<Assembled, RootfsError> {
    assemble(mounts, bundle)
}

#[test]
fn the_last_mount_is_the_rootfs_and_the_others_are_numbered() {
    in_bundle(|bundle| {
        let lower = bundle.join("mounts/0");
        let mounts =
            [entry("tmpfs", "t", "", &["size=1m"]), entry("bind", lower.to_str().unwrap(), "", &["ro"])];
        let assembled = now(&mounts, bundle).unwrap();

        fs::write(lower.join("file"), "shown").unwrap();
        assert_eq!(fs::read_to_string(bundle.join("rootfs/file")).unwrap(), "shown");
        let refused = fs::write(bundle.join("rootfs/file"), "x").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ReadOnlyFilesystem);
        assert_eq!(fs::metadata(bundle.join("mounts")).unwrap().mode() & 0o777, 0o750);

        assembled.unwind().unwrap();
        assembled.unwind().unwrap();
    });
}

#[test]
fn a_failure_leaves_nothing_mounted() {
    in_bundle(|bundle| {
        let mounts = [
            entry("tmpfs", "t", "", &[]),
            entry("tmpfs", "t", "", &["rshared"]),
            entry("no-such-file-system", "t", "", &[]),
        ];
        let error = now(&mounts, bundle).unwrap_err();
        assert!(matches!(error, RootfsError::Mount { kind, .. } if kind == "no-such-file-system"));
    });
}

#[tokio::test]
async fn a_missing_disk_is_found_out_before_anything_is_mounted() {
    let mounts = vec![entry("tmpfs", "t", "", &[]), entry("ext4", "serial:no-such-disk", "", &[])];
    let resolved = await_devices(mounts, Duration::ZERO).await;
    assert!(matches!(resolved, Err(RootfsError::NoDevice { name, .. }) if name == "no-such-disk"));
}

#[tokio::test]
async fn mounts_are_counted_before_any_device_is_looked_for() {
    let mounts = vec![entry("ext4", "serial:no-such-disk", "", &[]); 513];
    let refused = await_devices(mounts, Duration::from_secs(30)).await;
    assert!(matches!(refused, Err(RootfsError::Invalid { .. })), "{refused:?}");
}

#[test]
fn a_bad_request_is_refused_before_anything_is_mounted() {
    in_bundle(|bundle| {
        let fine = entry("tmpfs", "t", "", &[]);
        for bad in [
            entry("format/tmpfs", "{{ mount 1 }}", "", &[]),
            entry("format/format/tmpfs", "t", "", &[]),
            entry("nfs/tmpfs", "t", "", &[]),
            entry("mkdir/tmpfs", "t", "", &["X-containerd.mkdir.path=/x"]),
            entry("mkdir/format/tmpfs", "t", "", &["X-containerd.mkdir.path={{ mount 0 }}/x"]),
            entry("mkdir/tmpfs", "t", "", &["X-containerd.mkdir.else=/x"]),
            entry("tmpfs", "t", "", &["X-containerd.mkdir.path=/x"]),
            entry("tmpfs", "t", "", &["uidmap=0:1:1"]),
            entry("tmpfs", "t", "../../etc", &[]),
            entry("tmpfs", "t", "/a/../../b", &[]),
            entry("tmpfs", "t", &"/d".repeat(8_000), &[]),
            entry("tmpfs", "t", &"x".repeat(30_000), &[]),
        ] {
            assert!(now(&[fine.clone(), bad.clone()], bundle).is_err(), "{bad:?}");
            assert!(!bundle.join("mounts").exists());
        }
    });
}

#[test]
fn what_was_mounted_below_the_rootfs_goes_with_it() {
    in_bundle(|bundle| {
        let assembled = now(&[entry("tmpfs", "t", "", &[])], bundle).unwrap();
        for path in ["rootfs/a", "rootfs/a/b", "rootfs/a"] {
            fs::create_dir_all(bundle.join(path)).unwrap();
            mount("t", &bundle.join(path), "tmpfs", MsFlags::empty(), "").unwrap();
        }
        assembled.unwind().unwrap();
    });
}

#[test]
fn a_busy_rootfs_is_detached() {
    in_bundle(|bundle| {
        let assembled = now(&[entry("tmpfs", "t", "", &[])], bundle).unwrap();
        let _open = fs::File::create(bundle.join("rootfs/open")).unwrap();
        assembled.unwind().unwrap();
    });
}

#[test]
fn a_target_is_made_beneath_its_base_and_no_symlink_leads_out() {
    let outside = tempfile::tempdir().unwrap();
    in_bundle(|bundle| {
        let assembled = now(&[entry("tmpfs", "t", "/a/b", &[])], bundle).unwrap();
        assert_eq!(mounts_below(bundle).unwrap(), [bundle.join("rootfs/a/b")]);
        assert_eq!(fs::metadata(bundle.join("rootfs")).unwrap().mode() & 0o7777, 0o750);
        assert_eq!(fs::metadata(bundle.join("rootfs/a")).unwrap().mode() & 0o7777, 0o755);
        assembled.unwind().unwrap();
        assert!(!bundle.join("rootfs").exists());

        fs::create_dir(bundle.join("rootfs")).unwrap();
        std::os::unix::fs::symlink(outside.path(), bundle.join("rootfs/out")).unwrap();
        let escaped = now(&[entry("tmpfs", "t", "/out/x", &[])], bundle);
        assert!(matches!(escaped, Err(RootfsError::Escape { .. })), "{escaped:?}");
        fs::remove_file(bundle.join("rootfs/out")).unwrap();
        fs::remove_dir(bundle.join("rootfs")).unwrap();
    });
}

#[test]
fn the_deepest_target_goes_again_with_all_that_was_made_for_it() {
    in_bundle(|bundle| {
        let target = "/d".repeat(bundle::DEPTH_MAX - 1);
        now(&[entry("tmpfs", "t", &target, &[])], bundle).unwrap().unwind().unwrap();
        assert_eq!(fs::read_dir(bundle).unwrap().count(), 0);

        // A directory that is missing at the end, beneath others that were there.
        fs::create_dir_all(bundle.join("rootfs/a")).unwrap();
        now(&[entry("tmpfs", "t", "/a/b/c", &[])], bundle).unwrap().unwind().unwrap();
        assert_eq!(fs::read_dir(bundle.join("rootfs/a")).unwrap().count(), 0);
        fs::remove_dir_all(bundle.join("rootfs")).unwrap();
    });
}

#[test]
fn a_rootfs_that_was_there_is_kept() {
    in_bundle(|bundle| {
        let rootfs = bundle.join("rootfs");
        fs::create_dir(&rootfs).unwrap();
        fs::set_permissions(&rootfs, PermissionsExt::from_mode(0o711)).unwrap();
        now(&[entry("tmpfs", "t", "", &[])], bundle).unwrap().unwind().unwrap();
        assert_eq!(fs::metadata(&rootfs).unwrap().mode() & 0o7777, 0o711);
        fs::remove_dir(&rootfs).unwrap();
    });
}

#[test]
fn a_recursive_bind_is_read_only_at_its_top_alone() {
    let source = tempfile::tempdir().unwrap();
    in_bundle(|bundle| {
        let inner = source.path().join("inner");
        fs::create_dir(&inner).unwrap();
        mount("t", &inner, "tmpfs", MsFlags::empty(), "").unwrap();
        let bind = entry("bind", source.path().to_str().unwrap(), "", &["rbind", "ro", "rprivate"]);
        let assembled = now(&[bind], bundle).unwrap();
        assert!(fs::write(bundle.join("rootfs/file"), "").is_err());
        fs::write(bundle.join("rootfs/inner/file"), "").unwrap();
        assembled.unwind().unwrap();
        unmount(&inner).unwrap();
    });
}

#[test]
fn a_rootfs_that_is_in_place_is_left_alone() {
    let bundle = tempfile::tempdir().unwrap();
    let rootfs = bundle.path().join("rootfs");
    fs::create_dir(&rootfs).unwrap();
    fs::write(rootfs.join("file"), "kept").unwrap();
    let in_place = entry("bind", rootfs.to_str().unwrap(), "", &["rbind"]);
    let assembled = now(&[in_place], bundle.path()).unwrap();
    assembled.unwind().unwrap();
    assert_eq!(fs::read_to_string(rootfs.join("file")).unwrap(), "kept");
}
