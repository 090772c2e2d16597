//! A failure at any step of a plan leaves the bundle as it was, and a mended request works.

use super::disks::{assert_detached, can_loop, has, image};
use super::*;

/// Five mounts, one of each way: a disk in a file, memory, a bind of it, memory again, and all of it as an overlay.
fn request(disk: &str) -> Vec<Mount> {
    vec![
        entry("erofs", disk, "", &["loop", "ro"]),
        entry("tmpfs", "t", "sub/dir", &["size=1m"]),
        entry("format/bind", "{{ mount 1 }}", "", &["ro", "rprivate"]),
        entry("format/mkdir/tmpfs", "t", "", &["X-containerd.mkdir.path={{ mount 1 }}/made:700"]),
        entry(
            "format/mkdir/overlay",
            "overlay",
            "",
            &[
                "lowerdir={{ overlay 1 0 }}",
                "upperdir={{ mount 3 }}/upper",
                "workdir={{ mount 3 }}/work",
                "X-containerd.mkdir.path={{ mount 3 }}/upper",
                "X-containerd.mkdir.path={{ mount 3 }}/work",
            ],
        ),
    ]
}

/// One way for one mount to fail.
type Break = fn(&mut Mount);

const BREAKS: [(usize, Break); 14] = [
    (0, |mount| mount.kind = "no-such-file-system".into()),
    (0, |mount| mount.source = "/no/such/file".into()),
    (0, |mount| mount.source = "/proc/self/exe".into()),
    (1, |mount| mount.options = vec!["size=much".into()]),
    (1, |mount| mount.target = "sub/../..".into()),
    (2, |mount| mount.source = "{{ mount 1 }}/missing".into()),
    (2, |mount| mount.source = "{{ mount 2 }}".into()),
    (3, |mount| mount.options = vec!["X-containerd.mkdir.path={{ mount 0 }}/read-only".into()]),
    (3, |mount| mount.options = vec!["X-containerd.mkdir.path={{ mount 2 }}/made/read-only".into()]),
    (3, |mount| mount.kind = "format/mkdir/no-such-file-system".into()),
    (4, |mount| mount.options[2] = "workdir={{ mount 3 }}/missing".into()),
    (4, |mount| mount.options[1] = "upperdir={{ mount 0 }}".into()),
    (4, |mount| mount.options.push("no-such-option=1".into())),
    (4, |mount| mount.source = "{{ printf 0 }}".into()),
];

#[test]
fn a_failure_at_any_mount_leaves_the_bundle_as_it_was_and_a_retry_works() {
    if !can_loop() || !has("overlay") {
        return;
    }
    let disk = image();
    in_bundle(|bundle| {
        let fine = request(disk.path().to_str().unwrap());
        for (number, (index, make_it_fail)) in BREAKS.into_iter().enumerate() {
            let mut broken = fine.clone();
            make_it_fail(&mut broken[index]);
            let error = now(&broken, bundle).expect_err(&format!("break {number} of mount {index}"));
            assert!(!matches!(error, RootfsError::Unmount { .. }), "{error}");
            assert_eq!(mounts_below(bundle).unwrap(), Vec::<PathBuf>::new(), "break {number}: {error}");
            assert_eq!(fs::read_dir(bundle).unwrap().count(), 0, "break {number}: {error}");
            assert_detached(disk.path());

            let assembled = now(&fine, bundle).unwrap();
            assert_eq!(fs::metadata(bundle.join("rootfs/made")).unwrap().mode() & 0o7777, 0o700);
            fs::write(bundle.join("rootfs/made/file"), "").unwrap();
            assembled.unwind().unwrap();
            assert_detached(disk.path());
        }
    });
}
