//! The folder that a guest shares with its host.

use std::fs;
use std::os::unix::fs::{symlink, MetadataExt};
use std::path::Path;

use nix::mount::{mount, umount, MsFlags};
use vminit_shim::api::containerd::api::Mount;
use vminit_shim::client::Container;
use vminit_shim::spec;

use super::machine::{
    build, child_of_virtiofsd, folder, full, guest_of, is_reaped, launch, private_mounts, TAG,
};

/// Makes the folder a shared mount, as mounts reach virtiofsd through no other.
fn share(dir: &Path) {
    let bind = |source: Option<&Path>, flags| mount(source, dir, None::<&str>, flags, None::<&str>);
    bind(Some(dir), MsFlags::MS_BIND).expect("bind the folder onto itself");
    bind(None, MsFlags::MS_SHARED).expect("share the mount");
}

/// A root file system with busybox, on a mount of its own.
fn mount_root(at: &Path) {
    fs::create_dir(at).expect("make a folder");
    mount(Some("none"), at, Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("mount a tmpfs");
    fs::create_dir(at.join("bin")).expect("make a folder");
    fs::copy(build().join("busybox"), at.join("bin/busybox")).expect("copy busybox");
    symlink("busybox", at.join("bin/sh")).expect("link the shell");
    for name in ["proc", "dev", "sys"] {
        fs::create_dir(at.join(name)).expect("make a folder");
    }
}

fn rootfs() -> [Mount; 2] {
    let share = Mount { type_: "virtiofs".into(), source: TAG.into(), ..Default::default() };
    let root = Mount {
        type_: "format/bind".into(),
        source: "{{ mount 0 }}/rootfs".into(),
        options: vec!["rbind".into(), "rw".into()],
        ..Default::default()
    };
    [share, root]
}

#[tokio::test]
async fn a_container_lives_on_a_mount_that_was_made_in_the_share_after_the_boot() {
    private_mounts();
    let dir = folder();
    let config = full(dir.path());
    let shared = config.share.as_ref().expect("it has one").dir.clone();
    share(&shared);
    let (vm, began) = launch(config).await;
    let guest = guest_of(&vm).await;
    let root = shared.join("rootfs");
    mount_root(&root);

    let script = "echo from the guest; echo text > /written; busybox chown 1000:2000 /written";
    let config = spec::container(&["/bin/sh", "-c", script]);
    let finished = guest.run(Container { id: "c1", config: &config, rootfs: &rootfs() }).await;
    let finished = finished.unwrap_or_else(|error| panic!("{error}; the console:\n{}", vm.console_tail()));
    let said = String::from_utf8_lossy(&finished.stderr);
    assert_eq!(
        (finished.exit.status, finished.stdout.as_slice()),
        (0, b"from the guest\n".as_slice()),
        "{said}"
    );
    assert_eq!(fs::read_to_string(root.join("written")).expect("it was written"), "text\n");
    let written = fs::metadata(root.join("written")).expect("it was written");
    assert_eq!((written.uid(), written.gid()), (1000, 2000));

    let child = child_of_virtiofsd(&began).await;
    vm.stop().await;
    for pid in began.into_iter().map(|(_, pid)| pid).chain([child]) {
        assert!(is_reaped(pid), "{pid}");
    }
    // Nobody holds a copy of the mount any more.
    umount(&root).expect("unmount the root");
    umount(&shared).expect("unmount the share");
}
