//! A machine under test, and what the kernel says of its processes. Owns the folder of the machine; judges nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::mount::{mount, MsFlags};
use nix::sched::{unshare, CloneFlags};
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::time::sleep;
use vminit_shim::client::Guest;
use vminit_shim::vm::{Accel, Part, Share, User, Vm, VmConfig};

/// A boot takes some 3 s when it is emulated and the machine has nothing else to do.
pub const BOOT: Duration = Duration::from_secs(60);
/// What anything else may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at what tells of no change.
pub const LOOK: Duration = Duration::from_millis(5);
/// Names another virtiofsd than the one that is found.
const VIRTIOFSD_VARIABLE: &str = "VMINIT_TEST_VIRTIOFSD";
/// Where Debian has QEMU's virtiofsd, and where others have that in Rust.
const VIRTIOFSD: [&str; 3] = ["/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd", "/usr/bin/virtiofsd"];
pub const TAG: &str = "share";
/// A user that nobody else is.
pub const SOMEBODY: User = User { uid: 0x7000_0001, gid: 0x7000_0001 };

/// The folder of the artefacts.
pub fn build() -> PathBuf {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../build");
    let build = std::env::var_os("VMINITD_BUILD").map_or(default, PathBuf::from);
    for name in ["vmlinuz", "initrd.img", "vhost-device-vsock", "busybox"] {
        let path = build.join(name);
        assert!(path.exists(), "{} is missing; ./taskw image makes it", path.display());
    }
    build
}

/// A machine without a share that runs with our rights.
pub fn plain(dir: &Path) -> VmConfig {
    VmConfig { accel: Accel::Tcg, ..VmConfig::new(&build(), dir.join("vm")) }
}

/// As the shim has them: with a share, and QEMU without rights.
pub fn full(dir: &Path) -> VmConfig {
    let share = dir.join("share");
    fs::create_dir_all(&share).expect("make a folder");
    let named = std::env::var_os(VIRTIOFSD_VARIABLE).map(PathBuf::from);
    let virtiofsd = named.or_else(|| VIRTIOFSD.iter().map(PathBuf::from).find(|path| path.exists()));
    let virtiofsd = virtiofsd.expect("virtiofsd is installed");
    let user = Some(SOMEBODY);
    VmConfig { share: Some(Share { dir: share, virtiofsd, tag: TAG.into() }), user, ..plain(dir) }
}

/// A folder whose name leaves room for those of sockets.
pub fn folder() -> TempDir {
    tempfile::Builder::new().prefix("vm").tempdir().expect("make a folder")
}

/// Launches it; with the pid of each of its processes, in the order of their start.
pub async fn launch(config: VmConfig) -> (Vm, Vec<(Part, u32)>) {
    let mut began = Vec::new();
    let vm = Vm::launch_telling(config, |part, pid| began.push((part, pid))).await;
    (vm.expect("launch the machine"), began)
}

pub async fn guest_of(vm: &Vm) -> Guest {
    let serving = vm.wait_milestone("serve", BOOT).await;
    serving.unwrap_or_else(|error| panic!("{error}; the console:\n{}", vm.console_tail()));
    Guest::connect(vm.rpc(), vm.stream(), BOOT).await.expect("the guest answers")
}

/// Gives this thread, and what it starts, mounts of their own; they are gone with it.
pub fn private_mounts() {
    unshare(CloneFlags::CLONE_NEWNS).expect("make a mount namespace, as root");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("make mounts private");
}

/// A field of `/proc/<pid>/status`, its words separated by one space.
pub fn status(pid: u32, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
    line.expect("the field is there").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The processes that this one has forked and not reaped.
pub fn children(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().map(|pid| pid.parse().expect("a pid")).collect()
}

/// The child of virtiofsd, which it has once QEMU speaks to it.
pub async fn child_of_virtiofsd(began: &[(Part, u32)]) -> u32 {
    let (_, virtiofsd) = began.iter().find(|(part, _)| *part == Part::Virtiofsd).expect("it was started");
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let [child] = children(*virtiofsd)[..] {
            return child;
        }
        assert!(Instant::now() < deadline, "virtiofsd has no child");
        sleep(LOOK).await;
    }
}

pub fn sigkill(pid: u32) {
    kill(Pid::from_raw(pid.try_into().expect("a pid")), Signal::SIGKILL).expect("kill a process");
}

/// Whether its parent has reaped it.
pub fn is_reaped(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}

/// Waits until a process has died; the one that comes to be its parent may take its time with reaping it.
pub async fn dies(pid: u32) {
    let deadline = Instant::now() + PATIENCE;
    let lives = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, fields)| !fields.starts_with(['Z', 'X']))
    };
    while lives() {
        assert!(Instant::now() < deadline, "{pid} lives on");
        sleep(LOOK).await;
    }
}
