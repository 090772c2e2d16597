//! Containers that are frozen by cgroup v2: they stand still, go on, and can be killed meanwhile.

use std::time::Instant;

use vminit_shim::api::containerd::api::Status;
use vminit_shim::client::INIT;
use vminit_shim::spec;
use vminitd_test_support::calls::{pause, resume, status};
use vminitd_test_support::{EventLog, LIMIT};

use crate::machine::Machine;
use crate::observer::Observer;

/// Counts by the length of a file on the disk that all containers share.
const COUNT: &str = "while :; do echo >>/tmp/count; done";

#[tokio::test]
async fn a_paused_container_stands_still_until_it_is_resumed() {
    let Some(machine) = Machine::boot(|_| ()).await else { return };
    let events = EventLog::subscribe(&machine.guest).await;
    let observer = Observer::start(&machine).await;
    machine.start("c", &spec::container(&["/bin/sh", "-c", COUNT])).await;
    count_beyond(&observer, 0).await;

    pause(&machine.guest, "c").await.expect("pause");
    assert_eq!(status(&machine.guest, "c", INIT).await, Status::PAUSED);
    // Each look takes the guest a tenth of a second, in which a running counter would have counted.
    let frozen = count(&observer).await;
    assert_eq!(count(&observer).await, frozen, "the container counts while it is paused");

    resume(&machine.guest, "c").await.expect("resume");
    assert_eq!(status(&machine.guest, "c", INIT).await, Status::RUNNING);
    count_beyond(&observer, frozen).await;

    assert_eq!(machine.remove("c").await, 137);
    let whole = ["create", "start", "paused", "resumed", "exit 137", "delete"];
    assert_eq!(events.until("c", "delete").await, whole);
    observer.stop().await;
    machine.power_off().await;
}

#[tokio::test]
async fn a_paused_container_is_killed_and_reaped() {
    let Some(machine) = Machine::boot(|_| ()).await else { return };
    let events = EventLog::subscribe(&machine.guest).await;
    machine.start("c", &spec::container(&["/bin/sleep", "1000"])).await;
    machine.start_exec("c", "e", &["/bin/sleep", "1000"]).await;
    pause(&machine.guest, "c").await.expect("pause");
    assert_eq!(machine.remove("c").await, 137);
    let mut seen = events.until("c", "delete").await;
    seen.drain(..4);
    assert_eq!(seen, ["paused", "exit e 137", "exit 137", "delete"]);
    machine.power_off().await;
}

async fn count(observer: &Observer<'_>) -> u64 {
    observer.run("touch /tmp/count; stat -c %s /tmp/count").await.parse().expect("a length")
}

async fn count_beyond(observer: &Observer<'_>, floor: u64) {
    let deadline = Instant::now() + LIMIT;
    while count(observer).await <= floor {
        assert!(Instant::now() < deadline, "the container does not count beyond {floor}");
    }
}
