//! Overlays as hosts ask for them, and the directories that are made for them.

use super::disks::has;
use super::*;

#[test]
fn a_hundred_layers_are_mounted_in_a_bundle_with_a_long_path() {
    if !has("overlay") {
        return;
    }
    const LAYERS: usize = 100;
    in_bundle(|folder| {
        let bundle = folder.join("b".repeat(76));
        fs::create_dir(&bundle).unwrap();
        // A layer is given something to show by the mount after it.
        let layer = |n: usize| match n {
            0 => entry("tmpfs", "t", "", &[]),
            _ => {
                let made = format!("X-containerd.mkdir.path={{{{ mount {} }}}}/of-{}", n - 1, n - 1);
                entry("format/mkdir/tmpfs", "t", "", &[&made])
            }
        };
        let mut mounts: Vec<Mount> = (0..=LAYERS).map(layer).collect();
        let options = [
            "lowerdir={{ overlay 99 0 }}",
            "upperdir={{ mount 100 }}/upper",
            "workdir={{ mount 100 }}/work",
            "X-containerd.mkdir.path={{ mount 100 }}/upper",
            "X-containerd.mkdir.path={{ mount 100 }}/work",
        ];
        mounts.push(entry("format/mkdir/overlay", "overlay", "", &options));
        let before = std::env::current_dir().unwrap();
        let assembled = now(&mounts, &bundle).unwrap();
        assert_eq!(std::env::current_dir().unwrap(), before);

        for n in 0..LAYERS {
            assert!(bundle.join(format!("rootfs/of-{n}")).is_dir(), "layer {n} is shown");
        }
        fs::write(bundle.join("rootfs/written"), "").unwrap();
        assert!(bundle.join("mounts/100/upper/written").exists());
        assembled.unwind().unwrap();
        fs::remove_dir(&bundle).unwrap();
    });
}

#[test]
fn layers_that_no_page_holds_are_refused_before_anything_is_mounted() {
    in_bundle(|bundle| {
        let layers: Vec<String> = (0..500).map(|n| format!("/layers/{n}/of-a-directory")).collect();
        let overlay = entry("overlay", "overlay", "", &[&format!("lowerdir={}", layers.join(":"))]);
        let refused = now(&[overlay], bundle).unwrap_err();
        assert!(matches!(refused, RootfsError::OptionsTooLong { .. }), "{refused}");
    });
}

#[test]
fn directories_get_their_mode_and_owner_only_when_they_are_made() {
    in_bundle(|bundle| {
        let mkdir = |path: &str| format!("X-containerd.mkdir.path={{{{ mount 0 }}}}/{path}");
        let [deep, again, open] = ["a/b/c:2770:1000:2000", "a/b:700:1:1", "open:777"].map(mkdir);
        let alone = format!("X-containerd.mkdir.path={}/mounts/alone", bundle.display());
        let assembled = now(&[entry("mkdir/tmpfs", "t", "", &[&alone])], bundle).unwrap();
        assert_eq!(fs::metadata(bundle.join("mounts")).unwrap().mode() & 0o7777, 0o750);
        assembled.unwind().unwrap();

        let own = format!("X-containerd.mkdir.path={}/mounts/own/x:711", bundle.display());
        let mounts = [
            entry("tmpfs", "t", "", &[]),
            entry("format/mkdir/tmpfs", "t", "", &[&deep, &again, &open, &own]),
        ];
        let assembled = now(&mounts, bundle).unwrap();
        let check = |path: &str, mode, uid, gid| {
            let found = fs::metadata(bundle.join("mounts").join(path)).unwrap();
            assert_eq!((found.mode() & 0o7777, found.uid(), found.gid()), (mode, uid, gid), "{path}");
        };
        check("0/a", 0o755, 0, 0);
        check("0/a/b", 0o755, 0, 0);
        check("0/a/b/c", 0o2770, 1000, 2000);
        check("0/open", 0o777, 0, 0);
        check("own", 0o755, 0, 0);
        check("own/x", 0o711, 0, 0);
        assembled.unwind().unwrap();
    });
}

#[test]
fn directories_made_in_a_mounted_file_system_stay_in_it() {
    let disk = tempfile::tempdir().unwrap();
    in_bundle(|bundle| {
        let mounts = [
            entry("bind", disk.path().to_str().unwrap(), "", &[]),
            entry("format/mkdir/tmpfs", "t", "", &["X-containerd.mkdir.path={{ mount 0 }}/upper"]),
        ];
        now(&mounts, bundle).unwrap().unwind().unwrap();
        assert!(disk.path().join("upper").is_dir());
    });
}

#[test]
fn a_mount_is_made_at_its_target_and_named_by_it() {
    in_bundle(|bundle| {
        let mounts = [
            entry("tmpfs", "t", "/data", &[]),
            entry("format/bind", "{{ mount 0 }}", "/a/{{ target 0 }}", &["ro"]),
        ];
        let assembled = now(&mounts, bundle).unwrap();
        assert!(mounts_below(bundle).unwrap().contains(&bundle.join("rootfs/a/data")));
        assembled.unwind().unwrap();
    });
}
