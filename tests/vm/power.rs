//! Every way the machine is switched off: with somebody writing to a disk, within ten seconds, the disk clean afterwards,
//! and the reason on the console.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;
use vminit_shim::api::containerd::api::Empty;
use vminit_shim::client::{context, Client};
use vminit_shim::spec;
use vminit_shim::vm::{ExitReason, Vm, VmConfig};

use crate::machine::{build_folder, press_ctrl_alt_delete, room, Machine, OFF, PREPARE};
use crate::observer::Observer;

/// A machine that only boots and ends.
const BOOT_AND_END: Duration = Duration::from_secs(60);

/// Writes for as long as it lives; what it has written last is on its way to the disk when the end comes.
const WRITER: &str =
    "n=0; while :; do n=$((n + 1)); dd if=/dev/zero of=/written-$((n % 8)) bs=64k count=64; done";

async fn start_writer(machine: &Machine) {
    machine.start("writer", &spec::container(&["/bin/sh", "-c", WRITER])).await;
}

async fn connect(machine: &Machine) -> Client {
    Client::connect_until(&machine.vm.rpc(), OFF).await.expect("connect")
}

async fn prepare(client: &Client) {
    let asked = Instant::now();
    let answer = client.system().prepare_shutdown(context(PREPARE, "default"), &Empty::new()).await;
    answer.expect("PrepareShutdown");
    println!("PrepareShutdown answered after {:.2} s", asked.elapsed().as_secs_f64());
}

/// Waits for the machine to be off, and looks at what it has left.
async fn is_off(mut machine: Machine, asked: Instant, cause: &str) {
    let reason = machine.vm.wait_exit(OFF).await;
    let took = asked.elapsed();
    let console = machine.console();
    assert_eq!(reason.ok(), Some(ExitReason::GuestShutdown), "the console:\n{console}");
    println!("off {:.2} s after {cause}", took.as_secs_f64());
    assert!(took < OFF, "it took {took:?}; the console:\n{console}");
    let last = console.lines().rfind(|line| !line.starts_with('[')).unwrap_or_default();
    assert_eq!(last.trim_end(), format!("info power off cause={cause}"), "the console:\n{console}");
    machine.is_clean();
}

#[tokio::test]
async fn prepare_shutdown_and_a_close_switch_a_guest_of_spinbox_off() {
    let spinbox = |config: &mut VmConfig| config.init_args.push("-host=spinbox".into());
    let Some(machine) = Machine::boot(spinbox).await else { return };
    start_writer(&machine).await;
    let first = connect(&machine).await;
    prepare(&first).await;
    let asked = Instant::now();
    // Others may stay open, as the host's second does.
    drop(first);
    is_off(machine, asked, "PrepareShutdown").await;
}

#[tokio::test]
async fn after_prepare_shutdown_a_generic_guest_goes_on() {
    let Some(machine) = Machine::boot(|_| ()).await else { return };
    start_writer(&machine).await;
    let first = connect(&machine).await;
    prepare(&first).await;
    // Of a disk that is still mounted it would not be.
    machine.is_clean();
    prepare(&first).await;
    drop(first);
    let (status, stdout) = machine.run("after", &spec::container(&["/bin/echo", "here"])).await;
    assert_eq!((status, stdout.as_str()), (0, "here\n"));
    let asked = Instant::now();
    machine.guest.shutdown().await.expect("shutdown");
    is_off(machine, asked, "Task.Shutdown").await;
}

#[tokio::test]
async fn the_power_button_switches_the_guest_off() {
    let Some(machine) = Machine::boot(|_| ()).await else { return };
    start_writer(&machine).await;
    let asked = Instant::now();
    machine.vm.qmp("system_powerdown", json!({})).await.expect("press the button");
    is_off(machine, asked, "\"power button\"").await;
}

#[tokio::test]
async fn a_termination_signal_to_pid_1_switches_the_guest_off() {
    let Some(machine) = Machine::boot(|_| ()).await else { return };
    start_writer(&machine).await;
    let observer = Observer::start(&machine).await;
    // A stray that has left its cgroup, with a mount namespace of its own: no container's end takes it along.
    let stray = "echo $$ >/sys/fs/cgroup/cgroup.procs; while :; do echo x >>/stray; sleep 0.01; done";
    observer.run(&format!("setsid unshare -m sh -c '{stray}' </dev/null >/dev/null 2>&1 &")).await;
    // A moment later, or it would overtake the answer that the script has been started.
    observer.run("(sleep 1; kill -TERM 1) </dev/null >/dev/null 2>&1 &").await;
    is_off(machine, Instant::now(), "SIGTERM").await;
}

#[tokio::test]
async fn ctrl_alt_delete_switches_the_guest_off() {
    let Some(machine) = Machine::boot(|_| ()).await else { return };
    start_writer(&machine).await;
    let asked = Instant::now();
    press_ctrl_alt_delete(&machine.vm).await;
    is_off(machine, asked, "SIGINT").await;
}

#[tokio::test]
async fn ctrl_alt_delete_starts_the_guest_anew_where_that_is_set() {
    let reboot = |config: &mut VmConfig| config.append_extra = "vminitd.on_sigint=reboot".into();
    let Some(mut machine) = Machine::boot(reboot).await else { return };
    start_writer(&machine).await;
    press_ctrl_alt_delete(&machine.vm).await;
    let reason = machine.vm.wait_exit(OFF).await;
    let console = machine.console();
    assert_eq!(reason.ok(), Some(ExitReason::GuestReset), "the console:\n{console}");
    assert!(console.contains("info restart cause=SIGINT"), "the console:\n{console}");
    machine.is_clean();
}

#[tokio::test]
async fn a_guest_that_cannot_serve_says_so_and_is_off() {
    cannot_serve("", ExitReason::GuestShutdown, "info power off cause=").await;
}

#[tokio::test]
async fn a_guest_that_cannot_serve_starts_anew_where_that_is_set() {
    cannot_serve("vminitd.on_fatal=reboot", ExitReason::GuestReset, "info restart cause=").await;
}

async fn cannot_serve(setting: &str, expected: ExitReason, last: &str) {
    let Some(build) = build_folder() else { return };
    let dir = tempfile::Builder::new().prefix("vm").tempdir().expect("make a folder");
    let mut config = VmConfig::new(&build, dir.path().join("vm"));
    config.init_args.push("-listen=unix:///missing/rpc.sock".into());
    config.append_extra = setting.to_owned();
    let _room = room(config.cpus).await;
    let mut vm = Vm::launch(config).await.expect("launch the machine");
    let reason = vm.wait_exit(BOOT_AND_END).await.expect("the machine ends");
    let console = fs::read(vm.console_log()).expect("it has a console");
    let console = String::from_utf8_lossy(&console);
    assert_eq!(reason, expected, "the console:\n{console}");
    assert!(console.contains(last), "the console:\n{console}");
    let why = "error cannot go on cause=\"fatal: cannot serve: bind the RPC port: No such file or directory";
    assert!(console.contains(why), "the console:\n{console}");
}
