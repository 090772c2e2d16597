//! vminitd as PID 1 of a real microVM, driven over vsock. Needs what `./taskw image` builds, in `VMINITD_BUILD` or
//! `build/`; without it the tests say so and pass, unless `VMINITD_BUILD` asks for them.
//!
//! Only well-formed connections are made here: the vsock backend does not survive others. Abuse is in
//! `blackbox_wire.rs`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{json, Value};
use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit};
use vminit_shim::api::containerd::api::Mount;
use vminit_shim::client::{Container, Exec, Guest, INIT};
use vminit_shim::spec;
use vminit_shim::vm::{Disk, ExitReason, Vm, VmConfig};
use vminitd_test_support::EventLog;

/// A boot takes 1.5 s when it is emulated and the machine has nothing else to do.
const BOOT: Duration = Duration::from_secs(60);
/// How long the guest may take to stop in order.
const POWER_OFF: Duration = Duration::from_secs(30);

/// Machines at once: emulated ones slow each other down as soon as there are more than processors.
static ROOM: Semaphore = Semaphore::const_new(2);

/// A microVM with a disk that holds busybox.
struct Machine {
    // Before the folder in which its sockets are.
    vm: Vm,
    guest: Guest,
    _dir: TempDir,
    _room: SemaphorePermit<'static>,
}

impl Machine {
    async fn boot(change: impl FnOnce(&mut VmConfig)) -> Option<Self> {
        let build = build_folder()?;
        let room = ROOM.acquire().await.expect("the room is never closed");
        // Socket paths have room for 107 bytes (unix(7)), so the folder's name is short.
        let dir = tempfile::Builder::new().prefix("vm").tempdir().expect("make a folder");
        let disk = dir.path().join("rootfs.ext4");
        fs::copy(build.join("rootfs.ext4"), &disk).expect("copy the disk: the guest writes to it");
        let mut config = VmConfig::new(&build, dir.path().join("vm"));
        config.disks.push(Disk { path: disk, serial: "rootfs".into(), read_only: false });
        config.init_args.push("-debug".into());
        change(&mut config);
        let vm = Vm::launch(config).await.expect("launch the machine");
        let guest = Guest::connect(vm.rpc(), vm.stream(), BOOT).await;
        let guest = guest.unwrap_or_else(|e| panic!("{e}; the console:\n{}", console(&vm)));
        Some(Self { vm, guest, _dir: dir, _room: room })
    }

    /// Runs a program on the disk's root file system to its end: exit status, stdout.
    async fn run(&self, id: &str, config: &Value) -> (u32, String) {
        let finished = self.guest.run(Container { id, config, rootfs: &[root_disk()] }).await;
        let finished = finished.unwrap_or_else(|e| panic!("{e}; the console:\n{}", console(&self.vm)));
        (finished.exit.status, String::from_utf8(finished.stdout).expect("text"))
    }

    /// Asks the guest to stop; it is to power itself off.
    async fn power_off(mut self) {
        self.guest.shutdown().await.expect("shutdown");
        let reason = self.vm.wait_exit(POWER_OFF).await.expect("the machine ends");
        assert_eq!(reason, ExitReason::GuestShutdown, "the console:\n{}", console(&self.vm));
    }
}

fn build_folder() -> Option<PathBuf> {
    let named = env::var_os("VMINITD_BUILD").map(PathBuf::from);
    let build = named.clone().unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("build"));
    let needed = ["vmlinuz", "initrd.img", "rootfs.ext4", "vhost-device-vsock"];
    let missing = needed.into_iter().find(|name| !build.join(name).exists());
    match (missing, named) {
        (None, _) => Some(build),
        (Some(name), Some(_)) => panic!("{} is missing; ./taskw image makes it", build.join(name).display()),
        (Some(name), None) => {
            eprintln!("skipped: {} is missing; ./taskw image makes it", build.join(name).display());
            None
        }
    }
}

fn root_disk() -> Mount {
    Mount { type_: "ext4".into(), source: "serial:rootfs".into(), ..Default::default() }
}

/// What the guest wrote to its console; empty if it has none.
fn console(vm: &Vm) -> String {
    String::from_utf8_lossy(&fs::read(vm.console_log()).unwrap_or_default()).into_owned()
}

/// A container that sees PID 1: it shares the pid namespace, and may look at a process with more rights than its own.
fn beside_pid_1(args: &[&str]) -> Value {
    let mut config = spec::container(args);
    config["linux"]["namespaces"].as_array_mut().expect("namespaces").retain(|one| one["type"] != "pid");
    for set in ["bounding", "effective", "permitted"] {
        let set = config["process"]["capabilities"][set].as_array_mut().expect("capabilities");
        set.push(json!("CAP_SYS_PTRACE"));
    }
    config
}

#[tokio::test]
async fn a_container_lives_on_a_disk_and_its_events_come_in_order() {
    let Some(machine) = Machine::boot(|_| ()).await else { return };
    let events = EventLog::subscribe(&machine.guest).await;
    let script = "echo out; echo err >&2; exit 7";
    let config = spec::container(&["/bin/sh", "-c", script]);
    let finished =
        machine.guest.run(Container { id: "seven", config: &config, rootfs: &[root_disk()] }).await;
    let finished = finished.unwrap_or_else(|e| panic!("{e}; the console:\n{}", console(&machine.vm)));
    assert_eq!((finished.stdout.as_slice(), finished.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(finished.exit.status, 7);
    assert_eq!(events.until("seven", "delete").await, ["create", "start", "exit 7", "delete"]);
    machine.power_off().await;
}

#[tokio::test]
async fn an_exec_runs_beside_init_and_exits_before_it() {
    let Some(machine) = Machine::boot(|_| ()).await else { return };
    let events = EventLog::subscribe(&machine.guest).await;
    let config = spec::container(&["/bin/sleep", "1000"]);
    let stdio = machine.guest.stdio(false).await.expect("streams");
    let container = Container { id: "c", config: &config, rootfs: &[root_disk()] };
    machine.guest.create(container, &stdio).await.expect("create");
    machine.guest.start("c", INIT).await.expect("start");
    let process = spec::process(&["/bin/echo", "hello"]);
    let exec = Exec { container_id: "c", exec_id: "e", process: &process };
    let finished = machine.guest.run_exec(exec).await.expect("exec");
    assert_eq!((finished.exit.status, finished.stdout.as_slice()), (0, &b"hello\n"[..]));
    machine.guest.kill("c", INIT, 9).await.expect("kill");
    assert_eq!(machine.guest.wait("c", INIT).await.expect("wait").status, 137);
    machine.guest.delete("c", INIT).await.expect("delete");
    let mut seen = events.until("c", "delete").await;
    seen.retain(|event| event != "delete e");
    let whole = ["create", "start", "exec-added e", "exec-started e", "exit e 0", "exit 137", "delete"];
    assert_eq!(seen, whole);
    machine.power_off().await;
}

#[tokio::test]
async fn the_boot_reports_its_milestones_in_order() {
    let Some(machine) = Machine::boot(|_| ()).await else { return };
    let mut last_us = 0;
    for (index, phase) in
        ["pid1-entry", "system-init", "vsock-listen", "serve", "first-accept"].into_iter().enumerate()
    {
        let milestone = machine.vm.milestone(index).await.expect("a milestone");
        assert_eq!(milestone.phase, phase);
        assert!(milestone.uptime_us >= last_us, "{phase} before what comes before it");
        last_us = milestone.uptime_us;
    }
    machine.power_off().await;
}

#[tokio::test]
async fn a_machine_without_any_console_boots_and_runs_a_container() {
    let Some(machine) = Machine::boot(|config| config.console = false).await else { return };
    let (status, stdout) = machine.run("mute", &spec::container(&["/bin/echo", "hello"])).await;
    assert_eq!((status, stdout.as_str()), (0, "hello\n"));
    machine.power_off().await;
}

/// On the initramfs itself pivot_root(2) is EINVAL, so runc would need `--no-pivot`. A mount whose parent is itself is
/// the first of its namespace, the initramfs; PID 1's root is to be another one, moved over it.
#[tokio::test]
async fn runc_pivots_because_the_root_was_moved() {
    let Some(machine) = Machine::boot(|_| ()).await else { return };
    let (_, table) = machine.run("root", &beside_pid_1(&["/bin/cat", "/proc/1/mountinfo"])).await;
    let root = table.lines().find(|line| line.split(' ').nth(4) == Some("/")).expect("PID 1 has a root");
    let mut fields = root.split(' ');
    assert_ne!(fields.next(), fields.next(), "PID 1's root is the initramfs itself: {root}");
    let log = console(&machine.vm);
    assert!(!log.contains("no-pivot"), "the console:\n{log}");
    machine.power_off().await;
}

#[tokio::test]
async fn a_container_starts_with_no_signal_blocked_or_ignored() {
    let Some(machine) = Machine::boot(|_| ()).await else { return };
    let config = spec::container(&["/bin/grep", "^Sig[BI]", "/proc/self/status"]);
    let (_, masks) = machine.run("masks", &config).await;
    assert_eq!(masks, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
    machine.power_off().await;
}

/// The budgets are in docs/TESTING.md; this prints the figures they are held against.
#[tokio::test]
async fn the_size_and_the_memory_of_pid_1_are_printed() {
    let Some(machine) = Machine::boot(|_| ()).await else { return };
    let (_, status) = machine.run("rss", &beside_pid_1(&["/bin/grep", "^VmRSS", "/proc/1/status"])).await;
    let resident_kb = status.split_whitespace().nth(1).expect("VmRSS has a figure");
    println!("PID 1 in the guest: {resident_kb} kB resident");
    if let Some(binary) = build_folder().and_then(|build| fs::metadata(build.join("vminitd")).ok()) {
        println!("static binary: {} bytes", binary.len());
    }
    machine.power_off().await;
}

#[tokio::test]
async fn the_guest_powers_itself_off_with_a_container_running() {
    let Some(mut machine) = Machine::boot(|_| ()).await else { return };
    let config = spec::container(&["/bin/sleep", "1000"]);
    let stdio = machine.guest.stdio(false).await.expect("streams");
    let container = Container { id: "c", config: &config, rootfs: &[root_disk()] };
    machine.guest.create(container, &stdio).await.expect("create");
    machine.guest.start("c", INIT).await.expect("start");
    // Ctrl-Alt-Delete is SIGINT to PID 1 once 0 is in /proc/sys/kernel/ctrl-alt-del.
    let keys = ["ctrl", "alt", "delete"].map(|key| json!({"type": "qcode", "data": key}));
    machine.vm.qmp("send-key", json!({"keys": keys})).await.expect("press the keys");
    let reason = machine.vm.wait_exit(POWER_OFF).await.expect("the machine ends");
    assert_eq!(reason, ExitReason::GuestShutdown, "the console:\n{}", console(&machine.vm));
}
