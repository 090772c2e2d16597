//! A disk that has stopped answering stalls the containers that are on it, and no other. The disk is an ext4 that is
//! frozen: whoever writes to it waits. Needs root and loop devices; without them each test says so and passes.
#![allow(
    clippy::disallowed_methods,
    reason = "the ban keeps children away from PID 1's back; this is not PID 1"
)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::unistd::geteuid;
use tokio::task::JoinSet;
use tokio::time::timeout;
use vminit_shim::api::containerd::api::{CreateTaskRequest, Mount};
use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::{context, Guest, INIT};
use vminit_shim::spec;
use vminitd_test_support::calls::{create, rpc_code, running, state};
use vminitd_test_support::{code, poll_until, Daemon, LIMIT};

use crate::verbs::call;

/// The daemon's threads that may wait for disks.
const TURNS: usize = 16;
/// What a call takes at most that has to wait for one of them, and some time for a machine under load.
const REFUSED_WITHIN: Duration = Duration::from_secs(15);
/// What callers on the frozen disk wait.
const PATIENT: Duration = Duration::from_secs(120);

/// An ext4 on a loop device, in a folder of the daemon's. Dropping it thaws and unmounts it.
struct Disk {
    at: PathBuf,
}

impl Disk {
    /// `None` where that is not allowed.
    fn in_folder(dir: &Path) -> Option<Disk> {
        if !geteuid().is_root() || !Path::new("/dev/loop-control").exists() {
            eprintln!("skipped: needs root and loop devices");
            return None;
        }
        let (image, at) = (dir.join("disk.img"), dir.join("disk"));
        fs::create_dir(&at).expect("make a mount point");
        File::create(&image).and_then(|file| file.set_len(16 << 20)).expect("make an image");
        run("mkfs.ext4", &["-q", "-F"], &[&image]);
        run("mount", &["-o", "loop"], &[&image, &at]);
        Some(Disk { at })
    }

    fn bundle(&self, id: &str) -> String {
        let bundle = self.at.join(id);
        fs::create_dir(&bundle).expect("make a bundle");
        fs::write(bundle.join("config.json"), spec::container(&["forever"]).to_string()).expect("write");
        bundle.display().to_string()
    }

    fn freeze(&self) {
        run("sync", &[], &[]);
        run("fsfreeze", &["-f"], &[&self.at]);
    }

    fn thaw(&self) {
        run("fsfreeze", &["-u"], &[&self.at]);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let quietly = |command: &mut Command| drop(command.arg(&self.at).stderr(Stdio::null()).status());
        if std::thread::panicking() {
            // A frozen file system cannot be unmounted.
            quietly(Command::new("fsfreeze").arg("-u"));
        }
        quietly(Command::new("umount").arg("-l"));
    }
}

fn run(program: &str, flags: &[&str], paths: &[&Path]) {
    let status = Command::new(program).args(flags).args(paths).status().expect("it is installed");
    assert!(status.success(), "{program} ended with {status}");
}

/// Mounts something, so that directories are made in the bundle.
async fn create_on(guest: Guest, id: String, bundle: String) -> Result<(), Code> {
    let rootfs = vec![Mount { type_: "tmpfs".into(), source: "t".into(), ..Default::default() }];
    let request = CreateTaskRequest { id, bundle, rootfs, ..Default::default() };
    guest.client.task().create(context(PATIENT, "default"), &request).await.map(drop).map_err(rpc_code)
}

/// How many threads of the daemon wait for a disk (proc_pid_stat(5): state D).
fn waiting_for_disks(daemon: &Daemon) -> usize {
    let threads = fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("the daemon runs").flatten();
    let stats = threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
    stats.filter(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" D"))).count()
}

async fn stalled(daemon: &Daemon, count: usize) {
    let look = || match waiting_for_disks(daemon) {
        waiting if waiting == count => Ok(()),
        waiting => Err(format!("{waiting} threads wait")),
    };
    poll_until(LIMIT, "threads that wait for the disk", look).await;
}

async fn end(guest: &Guest, id: &str) {
    guest.kill(id, INIT, 9).await.expect("kill");
    guest.wait(id, INIT).await.expect("wait");
    guest.delete(id, INIT).await.expect("delete");
}

#[tokio::test]
async fn creates_on_a_stalled_disk_hold_up_no_other_container() {
    let daemon = Daemon::with_fake_runc().await;
    let Some(disk) = Disk::in_folder(daemon.dir()) else { return };
    let guest = daemon.guest().await;
    let stuck: Vec<String> = (0..8).map(|n| format!("stuck{n}")).collect();
    let bundles: Vec<String> = stuck.iter().map(|id| disk.bundle(id)).collect();
    disk.freeze();
    let mut creates = JoinSet::new();
    for (id, bundle) in stuck.iter().zip(bundles) {
        creates.spawn(create_on(daemon.guest().await, id.clone(), bundle));
    }
    stalled(&daemon, 8).await;
    running(&guest, "well", &["forever"]).await;
    end(&guest, "well").await;
    disk.thaw();
    while let Some(created) = creates.join_next().await {
        created.expect("join").expect("create");
    }
    for id in &stuck {
        end(&guest, id).await;
    }
    daemon.stop().await;
}

#[tokio::test]
async fn what_finds_every_turn_taken_is_refused_in_time_and_can_be_repeated() {
    let daemon = Daemon::with_fake_runc().await;
    let Some(disk) = Disk::in_folder(daemon.dir()) else { return };
    let guest = daemon.guest().await;
    running(&guest, "well", &["forever"]).await;
    running(&guest, "done", &["exit", "0"]).await;
    guest.wait("done", INIT).await.expect("wait");
    let stuck: Vec<String> = (0..TURNS).map(|n| format!("stuck{n}")).collect();
    for id in &stuck {
        create_on(daemon.guest().await, id.clone(), disk.bundle(id)).await.expect("create");
    }
    disk.freeze();
    let mut deletes = JoinSet::new();
    for id in stuck {
        let guest = daemon.guest().await;
        deletes.spawn(async move { guest.delete(&id, INIT).await });
    }
    stalled(&daemon, TURNS).await;
    refused_in_time(&daemon).await;
    call(&guest, "ps", "well").await.expect("pids");
    guest.kill("well", INIT, 9).await.expect("kill");
    assert_eq!(guest.wait("well", INIT).await.expect("wait").status, 137);
    disk.thaw();
    while let Some(deleted) = deletes.join_next().await {
        deleted.expect("join").expect("delete");
    }
    for id in ["well", "done"] {
        guest.delete(id, INIT).await.expect("delete");
    }
    create(&guest, "new", &["forever"]).await.expect("create");
    daemon.stop().await;
}

/// Bundle.Create and Delete, at the same time.
async fn refused_in_time(daemon: &Daemon) {
    let (guest, other) = (daemon.guest().await, daemon.guest().await);
    let config = spec::container(&["forever"]);
    let both = async { tokio::join!(guest.bundle("new", &config), other.delete("done", INIT)) };
    let (bundle, deleted) = timeout(REFUSED_WITHIN, both).await.expect("not for ever");
    assert_eq!(code(bundle), Code::UNAVAILABLE);
    assert_eq!(code(deleted), Code::UNAVAILABLE);
    state(&guest, "done", INIT).await.expect("it is as it was");
}

#[tokio::test]
async fn the_stop_does_not_wait_for_a_stalled_disk() {
    let mut daemon = Daemon::with_fake_runc().await;
    let Some(disk) = Disk::in_folder(daemon.dir()) else { return };
    running(&daemon.guest().await, "well", &["forever"]).await;
    for n in 0..TURNS {
        let id = format!("stuck{n}");
        create_on(daemon.guest().await, id.clone(), disk.bundle(&id)).await.expect("create");
    }
    disk.freeze();
    daemon.terminate();
    // It is at its end when its last words are said; its threads are then still in the kernel.
    poll_until(Duration::from_secs(60), "the end of the stop", || {
        daemon.log().contains("stopped cause=SIGTERM").then_some(()).ok_or_else(|| "not yet".to_owned())
    })
    .await;
    disk.thaw();
    assert!(daemon.ended().await.success());
}
