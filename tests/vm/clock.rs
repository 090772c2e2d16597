//! The guest's wall clock beside the host's.

use std::time::{Duration, SystemTime};

use serde_json::json;
use vminit_shim::client::Exec;
use vminit_shim::spec;

use crate::machine::{Machine, BOOT};

/// How long the machine stands still: far more than what the clock may be off.
const PAUSE: Duration = Duration::from_secs(5);

/// QEMU's RTC begins with the host's whole second, so it is behind by up to one.
const RTC_BEHIND: Duration = Duration::from_secs(1);

/// What a busy, emulated machine may add to that, either way.
const SLACK: Duration = Duration::from_millis(500);

/// For the guest to see a tick: one comes each second, and what it could not see clearly it leaves for a minute later.
const RESYNC: Duration = Duration::from_secs(70);

/// The kernel has set the clock before the pause, and the guest looks at it when it serves.
#[tokio::test]
async fn the_clock_comes_back_after_a_pause_that_nobody_announced() {
    let booted = Machine::boot_while(
        |_| (),
        async |vm| {
            vm.wait_milestone("pid1-entry", BOOT).await.expect("PID 1 begins");
            vm.qmp("stop", json!({})).await.expect("stop");
            // No condition to wait for: this is the time that the guest is to miss.
            tokio::time::sleep(PAUSE).await;
            vm.qmp("cont", json!({})).await.expect("cont");
        },
    );
    let Some(machine) = booted.await else { return };
    machine.start("c", &spec::container(&["/bin/sleep", "1000"])).await;

    let deadline = SystemTime::now() + RESYNC;
    for turn in 0.. {
        let exec_id = format!("look-{turn}");
        let before = SystemTime::now();
        let process = spec::process(&["/bin/true"]);
        let exec = Exec { container_id: "c", exec_id: &exec_id, process: &process };
        let guest_now = machine.guest.run_exec(exec).await.expect("exec").exit.at;
        let after = SystemTime::now();
        if (before - RTC_BEHIND - SLACK..=after + SLACK).contains(&guest_now) {
            break;
        }
        assert!(after < deadline, "the guest says {guest_now:?} at {after:?}:\n{}", machine.console());
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let console = machine.console();
    let stepped = console.lines().find(|line| line.contains("clock stepped by_ms="));
    let by_ms = stepped.and_then(|line| line.trim().rsplit_once('=')?.1.parse().ok());
    assert!(
        by_ms.is_some_and(|by_ms: u64| (3_000..8_000).contains(&by_ms)),
        "{by_ms:?}, the console:\n{console}"
    );
    assert_eq!(machine.remove("c").await, 137);
    machine.power_off().await;
}
