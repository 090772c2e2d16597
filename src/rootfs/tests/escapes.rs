//! No request, and nothing on a disk, leads out of the bundle.

use std::os::unix::fs::symlink;
use std::path::Component;

use proptest::prelude::*;

use super::*;
use crate::rootfs::plan::plan;

#[test]
fn a_symlink_on_a_disk_leads_nowhere() {
    let disk = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), disk.path().join("out")).unwrap();
    symlink(".", disk.path().join("self")).unwrap();
    fs::write(outside.path().join("file"), "").unwrap();
    in_bundle(|bundle| {
        let first = entry("bind", disk.path().to_str().unwrap(), "", &[]);
        let mkdir = |path: &str| format!("X-containerd.mkdir.path={{{{ mount 0 }}}}/{path}");
        for bad in [
            entry("format/mkdir/tmpfs", "t", "", &[&mkdir("out/x")]),
            entry("format/mkdir/tmpfs", "t", "", &[&mkdir("out")]),
            entry("format/mkdir/tmpfs", "t", "", &[&mkdir("self/x")]),
            entry("format/mkdir/tmpfs", "t", "", &[&mkdir("../../../x")]),
            entry("format/bind", "{{ mount 0 }}/out", "", &[]),
            entry("format/bind", "{{ mount 0 }}/../../..", "", &[]),
            entry("format/erofs", "{{ mount 0 }}/out/file", "", &["loop"]),
            entry("format/overlay", "o", "", &["lowerdir={{ mount 0 }}/out:{{ mount 0 }}"]),
            entry("format/overlay", "o", "", &["lowerdir={{ mount 0 }}:{{ mount 0 }}/../../.."]),
            entry("format/overlay", "o", "", &["lowerdir={{ mount 0 }},upperdir={{ mount 0 }}/out"]),
            entry(
                "format/overlay",
                "o",
                "",
                &["lowerdir={{ mount 0 }},upperdir={{ mount 0 }},workdir={{ mount 0 }}/out"],
            ),
        ] {
            let refused = now(&[first.clone(), bad.clone()], bundle);
            assert!(matches!(refused, Err(RootfsError::Escape { .. })), "{bad:?}: {refused:?}");
        }
    });
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 2);
}

#[test]
fn what_a_container_put_in_the_way_leads_no_unwinding_out() {
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir_all(outside.path().join("b")).unwrap();
    in_bundle(|bundle| {
        mount("t", &outside.path().join("b"), "tmpfs", MsFlags::empty(), "").unwrap();
        let assembled = now(&[entry("tmpfs", "t", "a/b", &[])], bundle).unwrap();
        unmount(&bundle.join("rootfs/a/b")).unwrap();
        fs::remove_dir_all(bundle.join("rootfs/a")).unwrap();
        symlink(outside.path(), bundle.join("rootfs/a")).unwrap();
        assembled.unwind().unwrap();
        assert_eq!(mounts_below(outside.path()).unwrap(), [outside.path().join("b")]);
        unmount(&outside.path().join("b")).unwrap();
        fs::remove_dir_all(bundle.join("rootfs")).unwrap();
    });
    assert!(outside.path().join("b").is_dir());
}

#[test]
fn a_mounts_folder_that_is_a_symlink_is_refused() {
    let outside = tempfile::tempdir().unwrap();
    in_bundle(|bundle| {
        symlink(outside.path(), bundle.join("mounts")).unwrap();
        let refused = now(&[entry("tmpfs", "t", "", &[]), entry("tmpfs", "t", "", &[])], bundle);
        assert!(matches!(refused, Err(RootfsError::Escape { .. })), "{refused:?}");
        fs::remove_file(bundle.join("mounts")).unwrap();
    });
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

fn only_goes_down(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_)))
}

/// Text of which much means something: whole options and pieces of them.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("BUNDLE".to_owned()),
        Just("/mounts".to_owned()),
        Just("/rootfs".to_owned()),
        Just("/..".to_owned()),
        Just("/".to_owned()),
        Just("X-containerd.mkdir.path=".to_owned()),
        Just("lowerdir=".to_owned()),
        Just("upperdir=".to_owned()),
        "[,:=/.]",
        "\\{\\{ (mount|source|target) [01] \\}\\}",
        "\\{\\{ overlay [01] [01] \\}\\}",
        "[a-z0-7]{1,3}",
        "(ro|loop|bind|rbind|rshared)",
        ".{0,4}",
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

fn any_mount() -> impl Strategy<Value = Mount> {
    let kind = prop_oneof!["(format/|mkdir/){0,2}(overlay|bind|ext4|tmpfs)", "[a-z/]{0,8}",];
    let target = prop_oneof![Just(String::new()), text()];
    (kind, text(), target, prop::collection::vec(text(), 0..4))
        .prop_map(|(kind, source, target, options)| Mount { kind, source, target, options })
}

proptest! {
    #[test]
    fn whatever_is_planned_lies_in_the_bundle(mounts in prop::collection::vec(any_mount(), 0..4)) {
        let folder = tempfile::tempdir().unwrap();
        let bundle = Bundle::open(folder.path()).unwrap();
        let path = folder.path().canonicalize().unwrap();
        let named = |text: String| text.replace("BUNDLE", path.to_str().unwrap());
        let mounts: Vec<Mount> = mounts.into_iter().map(|mount| Mount {
            source: named(mount.source),
            target: named(mount.target),
            options: mount.options.into_iter().map(named).collect(),
            kind: mount.kind,
        }).collect();
        for planned in plan(&mounts, &bundle).unwrap_or_default() {
            prop_assert!(only_goes_down(&planned.base_inside) && only_goes_down(&planned.point_inside));
            prop_assert!(planned.point_inside.starts_with(&planned.base_inside));
            prop_assert!(planned.source_inside.iter().chain(&planned.named_inside).all(|path| only_goes_down(path)));
            for directory in &planned.directories {
                prop_assert!(only_goes_down(&directory.inside) && directory.inside.starts_with("mounts"));
            }
            prop_assert!(planned.data.text.len() <= 4095);
        }
    }

    #[test]
    fn no_directory_is_made_outside_of_the_bundle(parts in prop::collection::vec("(up|out|self|dir|x|mounts|\\.\\.)", 1..6)) {
        let folder = tempfile::tempdir().unwrap();
        let (bundle, outside) = (folder.path().join("bundle"), folder.path().join("outside"));
        for dir in ["bundle/mounts/dir", "outside"] {
            fs::create_dir_all(folder.path().join(dir)).unwrap();
        }
        for (link, to) in [("up", "../.."), ("out", outside.to_str().unwrap()), ("self", "."), ("dir/up", "../../..")] {
            symlink(to, bundle.join("mounts").join(link)).unwrap();
        }
        let bundle = Bundle::open(&bundle).unwrap();
        let inside = Path::new("mounts").join(parts.join("/"));
        let mut done = Assembled::new(bundle.path().to_owned());
        let _ = bundle.make(&inside, &PUBLIC, &PUBLIC, &mut done);
        prop_assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        prop_assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
