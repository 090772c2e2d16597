//! File systems that are frozen for a snapshot: who waits, who does not, and that they are thawed whatever happens.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::time::sleep;
use vminit_shim::api::containerd::api::Status;
use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::{Client, ClientError, Container, INIT};
use vminit_shim::spec;
use vminitd_test_support::calls::{answer_at_once, exec, pids, status};
use vminitd_test_support::{ABSENCE, LIMIT};

use crate::machine::{press_ctrl_alt_delete, root_disk, Machine};

/// Writes to the disk that all containers share, and says so each time.
const WRITE: &str = "while :; do echo >>/tmp/written; echo; usleep 1000; done";

#[tokio::test]
async fn frozen_disks_hold_writers_up_until_a_thaw_or_the_end_of_the_connection() {
    let Some(mut machine) = Machine::boot(|_| ()).await else { return };
    let guest = &machine.guest;
    let client = &guest.client;
    // A second mount of the same disk: still one file system to be frozen.
    machine.create("waiting", &spec::container(&["/bin/true"])).await;
    let writer = Writer::start(&machine).await;

    let frozen = client.freeze_filesystems().await.expect("freeze");
    assert_eq!(frozen.len(), 1, "{frozen:?}");
    assert!(frozen[0].starts_with("/run/bundles/"), "{frozen:?}");
    writer.stands_still().await;
    what_would_write_is_refused(&machine).await;
    assert_eq!(status(guest, "writer", INIT).await, Status::RUNNING);
    assert_eq!(pids(guest, "writer").await.expect("pids").len(), 1);
    assert_eq!(client.freeze_filesystems().await.expect("freeze again"), frozen);
    client.thaw_filesystems().await.expect("thaw");
    writer.goes_on().await;
    client.thaw_filesystems().await.expect("thaw what is not frozen");

    let other = Client::connect(&machine.vm.rpc()).await.expect("connect");
    assert_eq!(other.freeze_filesystems().await.expect("freeze"), frozen);
    writer.stands_still().await;
    drop(other);
    writer.goes_on().await;
    a_stalled_disk_holds_up_nothing_but_its_freeze(&machine, &writer).await;

    client.freeze_filesystems().await.expect("freeze");
    writer.stands_still().await;
    press_ctrl_alt_delete(&machine.vm).await;
    machine.is_off().await;
    machine.is_clean();
}

/// One whose host has stopped to serve it: what is dirty cannot be written, and only then is a file system frozen.
async fn a_stalled_disk_holds_up_nothing_but_its_freeze(machine: &Machine, writer: &Writer) {
    let client = &machine.guest.client;
    throttle(machine, 1).await;
    let mut freezing = pin!(client.freeze_filesystems());
    let early = answer_at_once(&machine.guest, &mut freezing).await;
    assert!(early.is_none(), "{early:?}");
    sleep(ABSENCE).await;
    let early = answer_at_once(&machine.guest, &mut freezing).await;
    assert!(early.is_none(), "{early:?}");
    throttle(machine, 0).await;
    assert_eq!(freezing.await.expect("freeze").len(), 1);
    writer.stands_still().await;
    client.thaw_filesystems().await.expect("thaw");
    writer.goes_on().await;
}

/// How many bytes a second are written to the disk; 0: as many as there are.
async fn throttle(machine: &Machine, bytes: u64) {
    let limits = json!({
        "device": "disk0", "bps": 0, "bps_rd": 0, "bps_wr": bytes, "iops": 0, "iops_rd": 0, "iops_wr": 0,
    });
    machine.vm.qmp("block_set_io_throttle", limits).await.expect("limit the disk");
}

/// A container that writes without a pause, as far as the host can see.
struct Writer(Arc<AtomicUsize>);

impl Writer {
    async fn start(machine: &Machine) -> Self {
        let config = spec::container(&["/bin/sh", "-c", WRITE]);
        let container = Container { id: "writer", config: &config, rootfs: &[root_disk()] };
        let stdio = machine.guest.stdio(false).await.expect("streams");
        machine.guest.create(container, &stdio).await.expect("create");
        machine.guest.start("writer", INIT).await.expect("start");
        let mut output = stdio.stdout.expect("it was asked for").socket;
        let writer = Self(Arc::default());
        let written = writer.0.clone();
        tokio::spawn(async move {
            let mut chunk = [0; 4096];
            // Its end is that of the machine.
            while let Ok(length @ 1..) = output.read(&mut chunk).await {
                written.fetch_add(length, Ordering::Relaxed);
            }
        });
        writer.goes_on().await;
        writer
    }

    fn written(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// What it said before may still be on its way.
    async fn stands_still(&self) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let before = self.written();
            sleep(ABSENCE).await;
            if self.written() == before {
                return;
            }
            assert!(Instant::now() < deadline, "it writes on");
        }
    }

    async fn goes_on(&self) {
        let (before, deadline) = (self.written(), Instant::now() + LIMIT);
        while self.written() == before {
            assert!(Instant::now() < deadline, "it does not write");
            sleep(ABSENCE / 50).await;
        }
    }
}

async fn what_would_write_is_refused(machine: &Machine) {
    let guest = &machine.guest;
    let config = spec::container(&["/bin/true"]);
    let refusals = [
        ("Bundle.Create", guest.bundle("new", &config).await.map(drop)),
        ("Exec", exec(guest, "writer", "e", &["/bin/true"]).await),
        ("Start", guest.start("waiting", INIT).await.map(drop)),
        ("Delete", guest.delete("waiting", INIT).await.map(drop)),
    ];
    for (call, answer) in refusals {
        let code = answer.err().as_ref().and_then(ClientError::code);
        assert_eq!(code, Some(Code::FAILED_PRECONDITION), "{call}");
    }
}
