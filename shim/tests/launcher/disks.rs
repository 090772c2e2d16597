//! A root whose layers are images and whose changes are the host's, as containerd's erofs snapshotter hands it over.

use std::fs;
use std::os::unix::fs::{symlink, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use tokio::process::Command;
use vminit_shim::api::containerd::api::Mount;
use vminit_shim::client::Container;
use vminit_shim::plan::Root;
use vminit_shim::rootfs::{own_namespace, stage, Request};
use vminit_shim::spec;
use vminit_shim::vm::VmConfig;

use super::machine::{build, folder, full, guest_of, launch};

/// An image of a layer. It is ext4, which every host can make; the guest does not care.
async fn layer(dir: &Path, name: &str, fill: impl FnOnce(&Path)) -> PathBuf {
    let (tree, image) = (dir.join(name), dir.join(format!("{name}.img")));
    fs::create_dir(&tree).expect("make a folder");
    fill(&tree);
    let made =
        Command::new("mkfs.ext4").args(["-q", "-F", "-d"]).args([&tree, &image]).arg("16M").output().await;
    assert!(made.expect("run mkfs.ext4").status.success());
    image
}

fn busybox(tree: &Path) {
    for name in ["bin", "proc", "dev", "sys"] {
        fs::create_dir(tree.join(name)).expect("make a folder");
    }
    fs::copy(build().join("busybox"), tree.join("bin/busybox")).expect("copy busybox");
    symlink("busybox", tree.join("bin/sh")).expect("link the shell");
}

fn image(path: &Path) -> Mount {
    let options = ["ro", "loop"].map(str::to_owned).into();
    let source = path.to_str().expect("it is UTF-8").to_owned();
    Mount { type_: "ext4".into(), source, options, ..Default::default() }
}

#[tokio::test]
async fn a_root_of_images_is_changed_in_folders_of_the_host() {
    own_namespace().expect("make a mount namespace, as root");
    let dir = folder();
    let upper = layer(dir.path(), "upper", |tree| {
        for name in ["gone", "kept"] {
            fs::write(tree.join(name), name).expect("write a file");
        }
    })
    .await;
    let lower = layer(dir.path(), "lower", busybox).await;
    let snapshot = dir.path().join("snapshot");
    let [changes, work] = ["fs", "work"].map(|name| snapshot.join(name));
    for folder in [&changes, &work] {
        fs::create_dir_all(folder).expect("make a folder");
    }
    let options = [
        format!("workdir={}", work.display()),
        format!("upperdir={}", changes.display()),
        "lowerdir={{ overlay 0 1 }}".to_owned(),
    ];
    let (type_, source) = ("format/mkdir/overlay".into(), "overlay".into());
    let overlay = Mount { type_, source, options: options.into(), ..Default::default() };
    let mounts = [image(&upper), image(&lower), overlay];

    let root = Root { path: "rootfs".into(), read_only: false, points: Vec::new() };
    let request = Request { dir: dir.path(), bundle: dir.path(), root: &root, volumes: &[], mounts: &mounts };
    let mut staged = stage(&request).expect("stage the root");
    let config = full(dir.path());
    assert_eq!(config.share.as_ref().expect("it has one").dir, staged.share());
    let (vm, _) = launch(VmConfig { disks: staged.disks().to_vec(), ..config }).await;
    let guest = guest_of(&vm).await;

    let script = "echo text > /written; busybox rm /gone; busybox mv /kept /moved; busybox ls /";
    let config = spec::container(&["/bin/sh", "-c", script]);
    let finished = guest.run(Container { id: "c1", config: &config, rootfs: staged.guest_mounts() }).await;
    let finished = finished.unwrap_or_else(|error| panic!("{error}; the console:\n{}", vm.console_tail()));
    let said = String::from_utf8_lossy(&finished.stderr);
    let names = "bin\ndev\nlost+found\nmoved\nproc\nsys\nwritten\n";
    assert_eq!(
        (finished.exit.status, String::from_utf8_lossy(&finished.stdout).as_ref()),
        (0, names),
        "{said}"
    );
    vm.stop().await;
    staged.unmount().expect("unmount the share");

    assert_eq!(fs::read_to_string(changes.join("written")).expect("it was written"), "text\n");
    assert_eq!(fs::read_to_string(changes.join("moved")).expect("it was moved"), "kept");
    // A whiteout is a character device of number 0.
    let gone = fs::symlink_metadata(changes.join("gone")).expect("it was covered");
    assert_eq!((gone.file_type().is_char_device(), gone.rdev()), (true, 0));
}
