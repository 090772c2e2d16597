//! Kills by the kernel's OOM killer: told before the exit that they cause, and no trouble where the cgroup is gone.

use serde_json::Value;
use vminit_shim::api::containerd::api::Status;
use vminit_shim::client::INIT;
use vminit_shim::spec;
use vminitd_test_support::calls::status;
use vminitd_test_support::EventLog;

use crate::machine::Machine;
use crate::observer::Observer;

const LIMIT_BYTES: u64 = 32 << 20;
const ROUNDS: usize = 20;
/// Fills a block of twice the limit.
const GLUTTON: [&str; 5] = ["/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"];

#[tokio::test]
async fn an_init_beyond_its_memory_limit_is_told_as_oom_and_then_as_its_exit() {
    let Some(machine) = Machine::boot(|_| ()).await else { return };
    let events = EventLog::subscribe(&machine.guest).await;
    for round in 0..ROUNDS {
        let id = format!("oom-{round}");
        machine.start(&id, &limited(&GLUTTON)).await;
        assert_eq!(machine.guest.wait(&id, INIT).await.expect("wait").status, 137, "in round {round}");
        machine.guest.delete(&id, INIT).await.expect("delete");
        let whole = ["create", "start", "oom", "exit 137", "delete"];
        assert_eq!(events.until(&id, "delete").await, whole, "in round {round}");
    }
    println!("OOM at {LIMIT_BYTES} bytes was told before the exit in {ROUNDS} of {ROUNDS} rounds");
    machine.power_off().await;
}

#[tokio::test]
async fn an_exec_beyond_the_memory_limit_is_told_while_the_init_lives_on() {
    let Some(machine) = Machine::boot(|_| ()).await else { return };
    let events = EventLog::subscribe(&machine.guest).await;
    machine.start("c", &limited(&["/bin/sleep", "1000"])).await;
    machine.start_exec("c", "e", &GLUTTON).await;
    assert_eq!(machine.guest.wait("c", "e").await.expect("wait").status, 137);
    machine.guest.delete("c", "e").await.expect("delete");
    assert_eq!(status(&machine.guest, "c", INIT).await, Status::RUNNING);
    machine.remove("c").await;
    let whole =
        ["create", "start", "exec-added e", "exec-started e", "oom", "exit e 137", "exit 137", "delete"];
    assert_eq!(events.until("c", "delete").await, whole);
    machine.power_off().await;
}

#[tokio::test]
async fn a_cgroup_that_is_gone_before_or_after_the_start_is_no_error() {
    let Some(machine) = Machine::boot(|_| ()).await else { return };
    let events = EventLog::subscribe(&machine.guest).await;
    let observer = Observer::start(&machine).await;
    let leave =
        |id: &str, pid: &str| format!("echo {pid} >/sys/fs/cgroup/cgroup.procs; rmdir /sys/fs/cgroup/{id}");

    let pid = machine.create("before", &limited(&["/bin/sh", "-c", "exit 3"])).await;
    observer.run(&leave("before", &pid.to_string())).await;
    machine.guest.start("before", INIT).await.expect("start");

    let script = format!("{}; exit 3", leave("after", "0"));
    let mut config = limited(&["/bin/sh", "-ec", &script]);
    spec::bind(&mut config, "/sys/fs/cgroup", "/sys/fs/cgroup");
    machine.start("after", &config).await;

    for id in ["before", "after"] {
        assert_eq!(machine.guest.wait(id, INIT).await.expect("wait").status, 3, "{id}");
        machine.guest.delete(id, INIT).await.expect("delete");
        assert_eq!(events.until(id, "delete").await, ["create", "start", "exit 3", "delete"], "{id}");
    }
    observer.stop().await;
    machine.power_off().await;
}

fn limited(args: &[&str]) -> Value {
    let mut config = spec::container(args);
    spec::limit_memory(&mut config, LIMIT_BYTES);
    config
}
