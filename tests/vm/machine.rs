//! A microVM under test: its launch from what `./taskw image` builds, the programs that are run in it, its end. Owns
//! the number of machines at once; never looks into the guest itself (`observer` does).

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit};
use vminit_shim::api::containerd::api::Mount;
use vminit_shim::client::{Container, Exec, Guest, Stdio, INIT};
use vminit_shim::spec;
use vminit_shim::vm::{Disk, ExitReason, Vm, VmConfig, VmError};

/// A boot takes 1.5 s when it is emulated and the machine has nothing else to do.
pub const BOOT: Duration = Duration::from_secs(60);
/// How long the guest may take to stop in order.
pub const POWER_OFF: Duration = Duration::from_secs(30);

/// Processors of all machines at once: emulated ones slow each other down as soon as there are more than real ones.
static ROOM: Semaphore = Semaphore::const_new(2);

/// The image of the disk, in the machine's folder.
const DISK: &str = "rootfs.ext4";

/// A microVM with a disk that holds busybox.
pub struct Machine {
    // Before the folder in which its sockets are.
    pub vm: Vm,
    pub guest: Guest,
    /// The image of its disk.
    pub disk: PathBuf,
    dir: TempDir,
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
        let disk = dir.path().join(DISK);
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
        Some(Self { vm, guest, disk, dir, _room: room })
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

    /// The image of the disk with busybox.
    pub fn disk(&self) -> PathBuf {
        self.dir.path().join(DISK)
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

/// Waits until the guest serves, where a console tells. vhost-device-vsock can lose a connection that comes while the
/// guest's driver starts, and then nobody answers on it.
async fn serving(vm: &Vm) {
    match vm.wait_milestone("serve", BOOT).await {
        Ok(_) | Err(VmError::NoConsole { .. }) => {}
        Err(error) => panic!("{error}; the console:\n{}", console(vm)),
    }
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

/// What the guest wrote to its console; empty if it has none.
pub fn console(vm: &Vm) -> String {
    String::from_utf8_lossy(&fs::read(vm.console_log()).unwrap_or_default()).into_owned()
}
