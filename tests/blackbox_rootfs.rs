//! Root file systems put together for a Create, on the machine's own kernel: what hosts ask for, and what they get when
//! it makes no sense. Needs root; without it each test says so and passes.
#![allow(
    clippy::disallowed_methods,
    reason = "the ban keeps children away from PID 1's back; this is not PID 1"
)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::geteuid;
use vminit_shim::api::containerd::api::{CreateTaskRequest, Mount};
use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::{Guest, INIT};
use vminit_shim::spec;
use vminitd_test_support::calls::{brief, rpc_code};
use vminitd_test_support::{poll_until, Daemon, LIMIT};

fn mount(kind: &str, source: &str, options: &[&str]) -> Mount {
    let options = options.iter().map(|option| option.to_string()).collect();
    Mount { type_: kind.into(), source: source.into(), options, ..Default::default() }
}

/// An overlay of the first mount with the second to write to, as both hosts ask for it.
fn overlay() -> Mount {
    let options = [
        "lowerdir={{ overlay 0 0 }}",
        "upperdir={{ mount 1 }}/upper",
        "workdir={{ mount 1 }}/work",
        "X-containerd.mkdir.path={{ mount 1 }}/upper:755:0:0",
        "X-containerd.mkdir.path={{ mount 1 }}/work",
    ];
    mount("format/mkdir/overlay", "overlay", &options)
}

async fn create(guest: &Guest, bundle: &str, rootfs: Vec<Mount>) -> Result<(), Code> {
    let request = CreateTaskRequest { id: "c".into(), bundle: bundle.into(), rootfs, ..Default::default() };
    guest.client.task().create(brief(), &request).await.map(drop).map_err(rpc_code)
}

async fn run_and_delete(guest: &Guest) {
    guest.start("c", INIT).await.expect("start");
    guest.wait("c", INIT).await.expect("wait");
    guest.delete("c", INIT).await.expect("delete");
}

/// Makes an ext4 of 8 MiB with what is in `content`, if the machine can.
fn ext4(image: &Path, content: &Path) -> bool {
    let known = fs::read_to_string("/proc/filesystems").expect("read the file systems");
    let can = ["ext4", "overlay"].iter().all(|kind| known.split_whitespace().any(|word| word == *kind));
    if !can || !geteuid().is_root() || !Path::new("/dev/loop-control").exists() {
        eprintln!("skipped: needs root, loop devices, ext4 and overlay");
        return false;
    }
    File::create(image).and_then(|file| file.set_len(8 << 20)).expect("make an image");
    match Command::new("mkfs.ext4").args(["-q", "-F", "-d"]).args([content, image]).status() {
        Ok(status) => status.success(),
        Err(error) => {
            eprintln!("skipped: mkfs.ext4: {error}");
            false
        }
    }
}

fn is_attached(image: &Path) -> bool {
    let disks = fs::read_dir("/sys/block").expect("list the disks").flatten();
    let mut backing = disks.filter_map(|disk| fs::read_to_string(disk.path().join("loop/backing_file")).ok());
    backing.any(|file| Path::new(file.trim_end()) == image)
}

#[tokio::test]
async fn disks_in_files_become_an_overlay_that_keeps_what_is_written() {
    let daemon = Daemon::with_fake_runc().await;
    let content = daemon.dir().join("content");
    fs::create_dir(&content).expect("make a folder");
    fs::write(content.join("below"), "below").expect("write a file");
    let [lower, upper]: [PathBuf; 2] = ["lower.img", "upper.img"].map(|name| daemon.dir().join(name));
    let empty = tempfile::tempdir().expect("make a folder");
    if !ext4(&lower, &content) || !ext4(&upper, empty.path()) {
        return daemon.stop().await;
    }
    let guest = daemon.guest().await;
    let before = daemon.open_descriptors();
    // The disks come a second time with what the first container has written.
    for round in 0..2 {
        let bundle = guest.bundle("c", &spec::container(&["exit", "0"])).await.expect("bundle");
        let (lower_path, upper_path) = (lower.to_str().expect("text"), upper.to_str().expect("text"));
        let disks =
            [mount("ext4", lower_path, &["ro", "loop"]), mount("ext4", upper_path, &["loop", "noatime"])];
        create(&guest, &bundle, [&disks[..], &[overlay()]].concat()).await.expect("create");
        let rootfs = Path::new(&bundle).join("rootfs");
        assert_eq!(fs::read_to_string(rootfs.join("below")).expect("read the lower disk"), "below");
        assert_eq!(rootfs.join("written").exists(), round == 1);
        fs::write(rootfs.join("written"), "x").expect("write to the rootfs");
        assert!(is_attached(&lower) && is_attached(&upper));
        run_and_delete(&guest).await;
        poll_until(LIMIT, "loop devices", || {
            let attached = [&lower, &upper].into_iter().find(|image| is_attached(image));
            attached.map_or(Ok(()), |image| Err(format!("{} is still attached", image.display())))
        })
        .await;
    }
    daemon.assert_nothing_left(before).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_refused_rootfs_has_its_code_and_leaves_the_id_and_the_bundle_to_the_next() {
    if !geteuid().is_root() {
        return eprintln!("skipped: mounting needs root");
    }
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    let before = daemon.open_descriptors();
    let bundle = guest.bundle("c", &spec::container(&["exit", "0"])).await.expect("bundle");
    let memory = || mount("tmpfs", "t", &[]);
    let mkdir = |path: &str| {
        mount("format/mkdir/tmpfs", "t", &[&format!("X-containerd.mkdir.path={{{{ mount 0 }}}}/{path}")])
    };
    let long = format!("lowerdir={}", vec!["/some/directory"; 400].join(":"));
    for (bad, expected) in [
        (mount("format/bind", "{{ mount 1 }}", &[]), Code::INVALID_ARGUMENT),
        (mount("format/bind", "{{ len 0 }}", &[]), Code::INVALID_ARGUMENT),
        (mount("mkdir/tmpfs", "t", &["X-containerd.mkdir.path=/outside"]), Code::INVALID_ARGUMENT),
        (
            mount("format/mkdir/tmpfs", "t", &["X-containerd.mkdir.path={{ mount 0 }}/..//../x"]),
            Code::INVALID_ARGUMENT,
        ),
        (mount("ext4", "disk", &[&long]), Code::INVALID_ARGUMENT),
        (mkdir(&"/d".repeat(8_000)), Code::INVALID_ARGUMENT),
        (mkdir(&"x".repeat(30_000)), Code::INVALID_ARGUMENT),
        (Mount { target: "/d".repeat(8_000), ..memory() }, Code::INVALID_ARGUMENT),
        (
            mount("format/mkdir/tmpfs", "t", &["X-containerd.mkdir.path={{ mount 0 }}/x"; 1_000]),
            Code::INVALID_ARGUMENT,
        ),
        (mount("virtiofs", "/dev/root", &[]), Code::UNKNOWN),
        (mount("tmpfs", "t", &["X-containerd.else"]), Code::UNIMPLEMENTED),
        (mount("tmpfs", "t", &["uidmap=0:1:1"]), Code::UNIMPLEMENTED),
        (mount("nfs/tmpfs", "t", &[]), Code::UNIMPLEMENTED),
        (mount("no-such-file-system", "t", &[]), Code::UNKNOWN),
        (mount("ext4", "/no/such/file", &["loop"]), Code::UNKNOWN),
    ] {
        let refused = create(&guest, &bundle, vec![memory(), bad.clone()]).await;
        assert_eq!(refused, Err(expected), "{bad:?}");
    }
    create(&guest, &bundle, vec![memory(), memory()]).await.expect("create");
    run_and_delete(&guest).await;
    daemon.assert_nothing_left(before).await;
    daemon.stop().await;
}
