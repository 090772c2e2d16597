//! The guest's own life: its milestones, its root, its size and how it ends.

use std::fs;

use serde_json::json;
use vminit_shim::spec;
use vminit_shim::vm::ExitReason;

use crate::machine::{build_folder, Machine, POWER_OFF};
use crate::observer::Observer;

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
    let observer = Observer::start(&machine).await;
    let table = observer.run("cat /proc/1/mountinfo").await;
    let root = table.lines().find(|line| line.split(' ').nth(4) == Some("/")).expect("PID 1 has a root");
    let mut fields = root.split(' ');
    assert_ne!(fields.next(), fields.next(), "PID 1's root is the initramfs itself: {root}");
    let log = machine.console();
    assert!(!log.contains("no-pivot"), "the console:\n{log}");
    observer.stop().await;
    machine.power_off().await;
}

/// The budgets are in docs/TESTING.md; this prints the figures they are held against.
#[tokio::test]
async fn the_size_and_the_memory_of_pid_1_are_printed() {
    let Some(machine) = Machine::boot(|_| ()).await else { return };
    let observer = Observer::start(&machine).await;
    let status = observer.run("grep ^VmRSS /proc/1/status").await;
    let resident_kb = status.split_whitespace().nth(1).expect("VmRSS has a figure");
    println!("PID 1 in the guest: {resident_kb} kB resident");
    if let Some(binary) = build_folder().and_then(|build| fs::metadata(build.join("vminitd")).ok()) {
        println!("static binary: {} bytes", binary.len());
    }
    observer.stop().await;
    machine.power_off().await;
}

#[tokio::test]
async fn the_guest_powers_itself_off_with_a_container_running() {
    let Some(mut machine) = Machine::boot(|_| ()).await else { return };
    machine.start("c", &spec::container(&["/bin/sleep", "1000"])).await;
    // Ctrl-Alt-Delete is SIGINT to PID 1 once 0 is in /proc/sys/kernel/ctrl-alt-del.
    let keys = ["ctrl", "alt", "delete"].map(|key| json!({"type": "qcode", "data": key}));
    machine.vm.qmp("send-key", json!({"keys": keys})).await.expect("press the keys");
    let reason = machine.vm.wait_exit(POWER_OFF).await.expect("the machine ends");
    assert_eq!(reason, ExitReason::GuestShutdown, "the console:\n{}", machine.console());
}
