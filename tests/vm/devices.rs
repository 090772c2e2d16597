//! Disks that are there, that come late and that do not come, and what the extras disk brings.
#![allow(
    clippy::disallowed_methods,
    reason = "the ban keeps children away from PID 1's back; this is not PID 1"
)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;
use vminit_shim::api::bundle::CreateRequest;
use vminit_shim::api::containerd::api::Mount;
use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::{context, Container, INIT};
use vminit_shim::spec;
use vminit_shim::vm::{Disk, VmConfig};
use vminitd_test_support::poll_until;

use crate::machine::{root_disk, Machine, OFF};
use crate::observer::Observer;

/// What the guest says on its console when a disk that was asked for is not there at the first look.
const WAITS: &str = "wait for block devices";
const LATE: Duration = Duration::from_secs(30);
const UUID: &str = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";

fn run(program: &str, args: &[&str], paths: &[&Path]) {
    let status = Command::new(program).args(args).args(paths).status().expect("it is installed");
    assert!(status.success(), "{program} ended with {status}");
}

/// An ext4 with one file, which is called as the disk is; its label too.
fn disk(dir: &TempDir, name: &str, uuid: &str) -> PathBuf {
    let (image, tree) = (dir.path().join(name), dir.path().join(format!("{name}-tree")));
    fs::create_dir(&tree).expect("make a folder");
    fs::write(tree.join(name), format!("{name}\n")).expect("write");
    File::create(&image).and_then(|file| file.set_len(8 << 20)).expect("make an image");
    let tree = tree.to_str().expect("a plain path");
    run("mkfs.ext4", &["-q", "-F", "-L", name, "-U", uuid, "-d", tree], &[&image]);
    image
}

/// A disk with `/extras/<name>` and `/bin/extra`, and a link, which is none of the files that there may be.
fn extras(dir: &TempDir, name: &str) -> PathBuf {
    let (image, tree) = (dir.path().join("extras.tar"), dir.path().join("extras-tree"));
    for folder in ["extras", "bin"] {
        fs::create_dir_all(tree.join(folder)).expect("make a folder");
    }
    fs::write(tree.join("extras").join(name), "brought\n").expect("write");
    fs::write(tree.join("bin/extra"), "tool").expect("write");
    std::os::unix::fs::symlink("/etc/passwd", tree.join("extras/link")).expect("make a link");
    run("chmod", &["4711"], &[&tree.join("bin/extra")]);
    let tree = tree.to_str().expect("a plain path");
    let names = [format!("extras/{name}"), "bin/extra".to_owned(), "extras/link".to_owned()];
    let mut args = vec!["-c", "-P", "--format=pax", "--transform=s,^,/,", "-C", tree, "-f"];
    let image_name = image.to_str().expect("a plain path");
    args.push(image_name);
    args.extend(names.iter().map(String::as_str));
    run("tar", &args, &[]);
    image
}

/// How long PID 1 took to serve.
async fn print_boot_time(machine: &Machine, what: &str) {
    let mut uptimes = Vec::new();
    for index in [0, 3] {
        uptimes.push(machine.vm.milestone(index).await.expect("a milestone").uptime_us);
    }
    println!("from PID 1's entry to serving, {what}: {} us", uptimes[1] - uptimes[0]);
}

async fn plug(machine: &Machine, name: &str, path: &Path) {
    let file = json!({"driver": "file", "filename": path});
    let node = json!({"driver": "raw", "node-name": name, "file": file});
    machine.vm.qmp("blockdev-add", node).await.expect("add a disk");
    let bus = format!("port-{name}");
    let device = json!({"driver": "virtio-blk-pci", "id": name, "drive": name, "serial": name, "bus": bus});
    machine.vm.qmp("device_add", device).await.expect("plug it");
}

fn ports(config: &mut VmConfig, names: &[&str]) {
    for (index, name) in names.iter().enumerate() {
        let port = format!("pcie-root-port,id=port-{name},chassis={},slot={}", index + 1, index + 1);
        config.qemu_extra.extend(["-device".to_owned(), port]);
    }
}

fn ext4(source: &str) -> Mount {
    Mount { type_: "ext4".into(), source: source.into(), options: vec!["ro".into()], ..Default::default() }
}

/// The disk with busybox, three disks, a tmpfs for what is written, and the overlay of them all.
fn layers(late: [&str; 3]) -> Vec<Mount> {
    let mut mounts = vec![Mount { options: vec!["ro".into()], ..root_disk() }];
    mounts.extend(late.map(ext4));
    mounts.push(Mount { type_: "tmpfs".into(), source: "tmpfs".into(), ..Default::default() });
    let mut options = vec![
        "lowerdir={{ overlay 0 3 }}".to_owned(),
        "upperdir={{ mount 4 }}/upper".to_owned(),
        "workdir={{ mount 4 }}/work".to_owned(),
    ];
    options.extend(["upper", "work"].map(|name| format!("X-containerd.mkdir.path={{{{ mount 4 }}}}/{name}")));
    let (type_, source) = ("format/mkdir/overlay".to_owned(), "overlay".to_owned());
    mounts.push(Mount { type_, source, options, ..Default::default() });
    mounts
}

#[tokio::test]
async fn a_guest_without_disks_waits_for_none() {
    let Some(machine) = Machine::boot(|config| config.disks.clear()).await else { return };
    print_boot_time(&machine, "without disks").await;
    assert!(!machine.console().contains(WAITS), "the console:\n{}", machine.console());
    machine.power_off().await;
}

#[tokio::test]
async fn a_create_gets_the_disks_that_are_plugged_in_while_it_waits_for_them() {
    let dir = tempfile::tempdir().expect("make a folder");
    let names = ["late1", "late2", "late3"];
    let images = names.map(|name| disk(&dir, name, if name == "late3" { UUID } else { "random" }));
    let Some(machine) = Machine::boot(|config| ports(config, &names)).await else { return };
    print_boot_time(&machine, "with a disk").await;
    assert!(!machine.console().contains(WAITS), "the console:\n{}", machine.console());

    let config = spec::container(&["/bin/cat", "/late1", "/late2", "/late3"]);
    let rootfs = layers(["serial:late1", "label:late2", &format!("UUID={}", UUID.to_uppercase())]);
    let run = machine.guest.run(Container { id: "late", config: &config, rootfs: &rootfs });
    let plug = async {
        poll_until(LATE, "the guest to wait", || match machine.console().contains(WAITS) {
            true => Ok(()),
            false => Err("it does not".to_owned()),
        })
        .await;
        for (name, image) in names.iter().zip(&images) {
            plug(&machine, name, image).await;
        }
    };
    let (finished, ()) = tokio::join!(run, plug);
    let finished = finished.unwrap_or_else(|e| panic!("{e}; the console:\n{}", machine.console()));
    assert_eq!(String::from_utf8_lossy(&finished.stdout), "late1\nlate2\nlate3\n");
    assert!(machine.console().contains("kernel_tells=true"), "the console:\n{}", machine.console());

    let missing = [ext4("label:no-such-disk")];
    let refused = machine.guest.run(Container { id: "missing", config: &config, rootfs: &missing }).await;
    let refused = refused.expect_err("there is no such disk").to_string();
    let said = ["resolve block device by label", "no-such-disk", "not found"];
    assert!(said.iter().all(|part| refused.contains(part)), "{refused}");
    machine.power_off().await;
}

/// What the extras brought, and the mark that they were extracted.
async fn assert_extracted(machine: &Machine, name: &str) {
    let observer = Observer::start(machine).await;
    let script = format!(
        "cat /extras/{name} /run/spin-stack/.extras-extracted; stat -c '%a %u' /bin/extra; test ! -e /extras/link"
    );
    let output = observer.run_beside_pid_1(&script).await;
    assert_eq!(output, "brought\ndone\n4711 0", "the console:\n{}", machine.console());
    observer.stop().await;
}

/// As spinbox's host does it: a disk without a serial, behind those with layers.
#[tokio::test]
async fn the_extras_disk_is_found_by_its_index() {
    let dir = tempfile::tempdir().expect("make a folder");
    let image = extras(&dir, "by-index");
    let boot = Machine::boot(|config| {
        let drive = format!("if=none,id=extras,format=raw,read-only=on,file={}", image.display());
        let args = ["-drive", &drive, "-device", "virtio-blk-pci,drive=extras"];
        config.qemu_extra.extend(args.map(str::to_owned));
        config.append_extra = "spin.extras_disk=1".to_owned();
    });
    let Some(machine) = boot.await else { return };
    assert_extracted(&machine, "by-index").await;
    machine.power_off().await;
}

#[tokio::test]
async fn disks_of_the_configuration_are_waited_for_and_the_boot_goes_on_without_them() {
    let dir = tempfile::tempdir().expect("make a folder");
    let image = extras(&dir, "by-serial");
    let boot = Machine::boot(|config| {
        config.disks.push(Disk { path: image, serial: "extras".into(), read_only: true });
        let devices = "vminitd.devices=serial:absent,serial:rootfs,LABEL=absent";
        let wait = "vminitd.device_wait_ms=1000";
        config.append_extra = format!("{devices} {wait} vminitd.extras_disk=serial:extras");
    });
    let Some(machine) = boot.await else { return };
    print_boot_time(&machine, "with disks that do not come").await;
    assert_extracted(&machine, "by-serial").await;
    let console = machine.console();
    let failures: Vec<&str> =
        console.lines().filter(|line| line.contains("resolve block device by")).collect();
    assert_eq!(failures.len(), 2, "the console:\n{console}");
    assert!(failures.iter().all(|line| line.contains("absent")), "{failures:?}");
    machine.power_off().await;
}

/// A call that waits for the boot is not begun once its time is over, so the name it would have taken is free.
#[tokio::test]
async fn while_the_boot_waits_for_a_disk_the_guest_answers_and_a_create_waits() {
    let dir = tempfile::tempdir().expect("make a folder");
    let image = disk(&dir, "awaited", "random");
    let boot = Machine::boot(|config| {
        ports(config, &["awaited"]);
        config.append_extra = "vminitd.devices=serial:awaited vminitd.device_wait_ms=600000".to_owned();
    });
    let Some(machine) = boot.await else { return };
    assert!(!machine.is_booted().await, "the console:\n{}", machine.console());
    let unknown = machine.guest.kill("early", INIT, 9).await.expect_err("there is no container");
    assert_eq!(unknown.code(), Some(Code::NOT_FOUND));
    let request = CreateRequest { id: "early".to_owned(), ..Default::default() };
    let second = context(Duration::from_secs(1), "default");
    let late = machine.guest.client.bundle().create(second, &request).await;
    assert!(late.is_err(), "the boot is not over, and it was made: {late:?}");

    let config = spec::container(&["/bin/echo", "here"]);
    let (ran, ()) = tokio::join!(machine.run("early", &config), plug(&machine, "awaited", &image));
    assert_eq!((ran.0, ran.1.as_str()), (0, "here\n"));
    assert!(machine.is_booted().await);
    assert_eq!(machine.info().await.boot_failures, Vec::<String>::new());
    machine.power_off().await;
}

#[tokio::test]
async fn a_guest_whose_boot_waits_for_a_disk_is_switched_off_at_once() {
    let boot = Machine::boot(|config| {
        config.append_extra = "vminitd.devices=serial:absent vminitd.device_wait_ms=600000".to_owned();
    });
    let Some(mut machine) = boot.await else { return };
    let asked = Instant::now();
    machine.guest.shutdown().await.expect("shutdown");
    machine.is_off().await;
    assert!(asked.elapsed() < OFF, "the console:\n{}", machine.console());
    assert!(!machine.console().contains("booted took_ms"), "the console:\n{}", machine.console());
}
