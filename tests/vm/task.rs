//! The lives of containers and execs as a host sees them over vsock.

use std::time::Instant;

use vminit_shim::client::{Container, Exec, INIT};
use vminit_shim::spec;
use vminitd_test_support::{EventLog, LIMIT};

use crate::machine::{root_disk, Machine};
use crate::observer::Observer;

#[tokio::test]
async fn a_container_lives_on_a_disk_and_its_events_come_in_order() {
    let Some(machine) = Machine::boot(|_| ()).await else { return };
    let events = EventLog::subscribe(&machine.guest).await;
    let script = "echo out; echo err >&2; exit 7";
    let config = spec::container(&["/bin/sh", "-c", script]);
    let finished =
        machine.guest.run(Container { id: "seven", config: &config, rootfs: &[root_disk()] }).await;
    let finished = finished.unwrap_or_else(|e| panic!("{e}; the console:\n{}", machine.console()));
    assert_eq!((finished.stdout.as_slice(), finished.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(finished.exit.status, 7);
    assert_eq!(events.until("seven", "delete").await, ["create", "start", "exit 7", "delete"]);
    machine.power_off().await;
}

#[tokio::test]
async fn an_exec_runs_beside_init_and_exits_before_it() {
    let Some(machine) = Machine::boot(|_| ()).await else { return };
    let events = EventLog::subscribe(&machine.guest).await;
    machine.start("c", &spec::container(&["/bin/sleep", "1000"])).await;
    let process = spec::process(&["/bin/echo", "hello"]);
    let exec = Exec { container_id: "c", exec_id: "e", process: &process };
    let finished = machine.guest.run_exec(exec).await.expect("exec");
    assert_eq!((finished.exit.status, finished.stdout.as_slice()), (0, &b"hello\n"[..]));
    assert_eq!(machine.remove("c").await, 137);
    let whole = ["create", "start", "exec-added e", "exec-started e", "exit e 0", "exit 137", "delete"];
    assert_eq!(events.until("c", "delete").await, whole);
    machine.power_off().await;
}

/// No pid namespace ends with such an init, so the guest must kill what it leaves: a child that has moved to a session
/// of its own, and an exec, whose exit is told first.
#[tokio::test]
async fn nothing_outlives_an_init_that_shares_the_pids_of_the_guest() {
    let Some(machine) = Machine::boot(|_| ()).await else { return };
    let events = EventLog::subscribe(&machine.guest).await;
    let observer = Observer::start(&machine).await;
    let mut config = spec::container(&["/bin/sh", "-c", "setsid sleep 1000 & sleep 1000"]);
    spec::share_pids(&mut config);
    machine.start("c", &config).await;
    machine.start_exec("c", "e", &["/bin/sleep", "1000"]).await;

    machine.guest.kill("c", INIT, 9).await.expect("kill");
    assert_eq!(machine.guest.wait("c", INIT).await.expect("wait").status, 137);
    let deadline = Instant::now() + LIMIT;
    while !observer.run("cat /sys/fs/cgroup/c/cgroup.procs").await.is_empty() {
        assert!(Instant::now() < deadline, "a process outlives the init of its container");
    }
    machine.guest.delete("c", INIT).await.expect("delete");
    let whole = ["create", "start", "exec-added e", "exec-started e", "exit e 137", "exit 137", "delete"];
    assert_eq!(events.until("c", "delete").await, whole);
    observer.stop().await;
    machine.power_off().await;
}

/// `cgroup.kill` knows no containers. (The delete of such a container is runc's, which then kills all in its cgroup.)
#[tokio::test]
async fn the_end_of_an_init_harms_no_other_container_in_its_cgroup() {
    let Some(machine) = Machine::boot(|_| ()).await else { return };
    let mut config = spec::container(&["/bin/sleep", "1000"]);
    config["linux"]["cgroupsPath"] = "/shared".into();
    machine.start("stays", &config).await;
    spec::share_pids(&mut config);
    machine.start("goes", &config).await;
    machine.guest.kill("goes", INIT, 9).await.expect("kill");
    assert_eq!(machine.guest.wait("goes", INIT).await.expect("wait").status, 137);
    // An exec would be refused if this init had been killed too.
    machine.start_exec("stays", "e", &["/bin/true"]).await;
    assert_eq!(machine.guest.wait("stays", "e").await.expect("wait").status, 0);
    assert_eq!(machine.remove("stays").await, 137);
    machine.guest.delete("goes", INIT).await.expect("delete");
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
