//! A microVM under test: its launch from what `./taskw image` builds, the programs that are run in it, its end. Owns
//! the number of machines at once; never looks into the guest itself (`observer` does).

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::time::Duration;

use serde_json::{json, Value};
use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit};
use vminit_shim::api::containerd::api::Mount;
use vminit_shim::api::system::InfoResponse;
use vminit_shim::client::{context, Container, Exec, Guest, Stdio, INIT};
use vminit_shim::spec;
use vminit_shim::vm::{Disk, ExitReason, Vm, VmConfig, VmError};
use vminitd_test_support::LIMIT;

/// A boot takes 1.5 s when it is emulated and the machine has nothing else to do.
pub const BOOT: Duration = Duration::from_secs(60);
/// How long the guest may take to stop in order.
const POWER_OFF: Duration = Duration::from_secs(30);
/// From what asks for the end to a machine that is off: what the guest promises, also with somebody writing to a disk.
pub const OFF: Duration = Duration::from_secs(10);
/// What a host gives PrepareShutdown.
pub const PREPARE: Duration = Duration::from_secs(5);

/// Processors of all machines at once: emulated ones slow each other down as soon as there are more than real ones.
static ROOM: Semaphore = Semaphore::const_new(2);

/// A microVM with a disk that holds busybox.
pub struct Machine {
    // Before the folder in which its sockets are.
    pub vm: Vm,
    pub guest: Guest,
    /// The image of the disk with busybox.
    pub disk: PathBuf,
    _dir: TempDir,
    _room: SemaphorePermit<'static>,
}

impl Machine {
    /// Boots a machine and connects to it; `None`, and a word about it, where there is no image.
    pub async fn boot(change: impl FnOnce(&mut VmConfig)) -> Option<Self> {
        Self::boot_while(change, async |_| ()).await
    }

    /// The same, with something done to the machine while it boots.
    pub async fn boot_while(
        change: impl FnOnce(&mut VmConfig),
        meanwhile: impl AsyncFnOnce(&Vm),
    ) -> Option<Self> {
        let build = build_folder()?;
        // Socket paths have room for 107 bytes (unix(7)), so the folder's name is short.
        let dir = tempfile::Builder::new().prefix("vm").tempdir().expect("make a folder");
        let disk = dir.path().join("rootfs.ext4");
        fs::copy(build.join("rootfs.ext4"), &disk).expect("copy the disk: the guest writes to it");
        let mut config = VmConfig::new(&build, dir.path().join("vm"));
        config.disks.push(Disk { path: disk.clone(), serial: "rootfs".into(), read_only: false });
        config.init_args.push("-debug".into());
        change(&mut config);
        let room = room(config.cpus).await;
        let vm = Vm::launch(config).await.expect("launch the machine");
        meanwhile(&vm).await;
        serving(&vm).await;
        let guest = Guest::connect(vm.rpc(), vm.stream(), BOOT).await;
        let guest = guest.unwrap_or_else(|e| panic!("{e}; the console:\n{}", console(&vm)));
        Some(Self { vm, guest, disk, _dir: dir, _room: room })
    }

    /// Runs a program on the disk's root file system to its end: exit status, stdout.
    pub async fn run(&self, id: &str, config: &Value) -> (u32, String) {
        let finished = self.guest.run(Container { id, config, rootfs: &[root_disk()] }).await;
        let finished = finished.unwrap_or_else(|e| panic!("{e}; the console:\n{}", self.console()));
        (finished.exit.status, String::from_utf8(finished.stdout).expect("text"))
    }

    /// Creates a container on the disk's root file system, without stdio; the pid of its init.
    pub async fn create(&self, id: &str, config: &Value) -> u32 {
        let container = Container { id, config, rootfs: &[root_disk()] };
        let created = self.guest.create(container, &Stdio::default()).await;
        created.unwrap_or_else(|e| panic!("{e}; the console:\n{}", self.console()))
    }

    /// The same, started.
    pub async fn start(&self, id: &str, config: &Value) -> u32 {
        self.create(id, config).await;
        self.guest.start(id, INIT).await.expect("start")
    }

    /// Adds a process without stdio to a container and starts it; its pid.
    pub async fn start_exec(&self, container_id: &str, exec_id: &str, args: &[&str]) -> u32 {
        let process = spec::process(args);
        let exec = Exec { container_id, exec_id, process: &process };
        self.guest.exec(exec, &Stdio::default()).await.expect("exec");
        self.guest.start(container_id, exec_id).await.expect("start an exec")
    }

    /// Kills the container's init, waits for it and deletes the container; how it ended.
    pub async fn remove(&self, id: &str) -> u32 {
        self.guest.kill(id, INIT, 9).await.expect("kill");
        let status = self.guest.wait(id, INIT).await.expect("wait").status;
        self.guest.delete(id, INIT).await.expect("delete");
        status
    }

    /// What the guest wrote to its console; empty if it has none.
    pub fn console(&self) -> String {
        console(&self.vm)
    }

    /// What System.Info answers.
    pub async fn info(&self) -> InfoResponse {
        self.guest.client.system().info(context(LIMIT, "default"), &Default::default()).await.expect("Info")
    }

    /// Whether the boot is over, which goes on while the guest serves.
    pub async fn is_booted(&self) -> bool {
        self.info().await.boot_times.iter().any(|time| time.name == "total")
    }

    /// Fails unless the file system on the disk was written back and unmounted. e2fsck changes nothing with `-n`: one
    /// that was left mounted shows by what is in its journal, or by worse.
    #[expect(clippy::disallowed_methods, reason = "the guest's rule, and this is the host")]
    pub fn is_clean(&self) {
        let check =
            Command::new("/sbin/e2fsck").arg("-fn").arg(&self.disk).stdin(process::Stdio::null()).output();
        let check = check.expect("e2fsck is installed, as mke2fs made the disk");
        let said = [check.stdout, check.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let clean = check.status.success() && !said.contains("skipping journal recovery");
        assert!(clean, "{}: {said}\nthe console:\n{}", check.status, self.console());
    }

    /// Asks the guest to stop; it is to power itself off.
    pub async fn power_off(mut self) {
        self.guest.shutdown().await.expect("shutdown");
        self.is_off().await;
    }

    /// Waits until the guest has powered itself off.
    pub async fn is_off(&mut self) {
        let reason = self.vm.wait_exit(POWER_OFF).await.expect("the machine ends");
        assert_eq!(reason, ExitReason::GuestShutdown, "the console:\n{}", self.console());
    }
}

/// Waits until there is room for a machine with so many processors.
pub async fn room(cpus: u32) -> SemaphorePermit<'static> {
    ROOM.acquire_many(cpus).await.expect("the room is never closed")
}

/// Waits until the guest serves, where a console tells, else until its driver is there to be dialled.
async fn serving(vm: &Vm) {
    let serving = match vm.wait_milestone("serve", BOOT).await {
        Err(VmError::NoConsole { .. }) => vm.wait_vsock_driver(BOOT).await,
        milestone => milestone.map(drop),
    };
    serving.unwrap_or_else(|error| panic!("{error}; the console:\n{}", console(vm)));
}

/// The folder of the image: `VMINITD_BUILD`, which must be complete, or `build`, which may be missing.
pub fn build_folder() -> Option<PathBuf> {
    folder_with("initrd.img", "image")
}

/// The same for another initrd, and the task that makes it.
pub fn folder_with(initrd: &str, task: &str) -> Option<PathBuf> {
    let named = env::var_os("VMINITD_BUILD").map(PathBuf::from);
    let build = named.clone().unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("build"));
    let needed = ["vmlinuz", initrd, "rootfs.ext4", "vhost-device-vsock"];
    let missing = needed.into_iter().find(|name| !build.join(name).exists());
    match (missing, named) {
        (None, _) => Some(build),
        (Some(name), Some(_)) => panic!("{} is missing; ./taskw {task} makes it", build.join(name).display()),
        (Some(name), None) => {
            eprintln!("skipped: {} is missing; ./taskw {task} makes it", build.join(name).display());
            None
        }
    }
}

/// The disk with busybox, as the root of a container.
pub fn root_disk() -> Mount {
    Mount { type_: "ext4".into(), source: "serial:rootfs".into(), ..Default::default() }
}

/// Presses Ctrl-Alt-Del. It is SIGINT to PID 1 once 0 is in /proc/sys/kernel/ctrl-alt-del, which asks it to stop
/// whatever runs: Task.Shutdown does nothing while a container is left.
pub async fn press_ctrl_alt_delete(vm: &Vm) {
    let keys = ["ctrl", "alt", "delete"].map(|key| json!({"type": "qcode", "data": key}));
    vm.qmp("send-key", json!({"keys": keys})).await.expect("press the keys");
}

/// What the guest wrote to its console; empty if it has none.
pub fn console(vm: &Vm) -> String {
    String::from_utf8_lossy(&fs::read(vm.console_log()).unwrap_or_default()).into_owned()
}
