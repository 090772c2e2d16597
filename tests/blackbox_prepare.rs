//! PrepareShutdown of an ordinary process: containers go, the daemon stays, and with the spinbox profile it ends by itself
//! once it is left alone.

use std::fs;
use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;
use vminit_shim::api::containerd::api::Empty;
use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::{Guest, INIT};
use vminitd_test_support::calls::{brief, create, rpc_code, running};
use vminitd_test_support::{binaries, Daemon, ABSENCE};

/// How soon a host gets its answer at the latest: it waits 5 s for it.
const ANSWER: Duration = Duration::from_secs(5);

async fn prepare(guest: &Guest) -> Result<(), Code> {
    let answer = guest.client.system().prepare_shutdown(brief(), &Empty::new()).await;
    answer.map(drop).map_err(rpc_code)
}

async fn info(guest: &Guest) -> Result<(), Code> {
    guest.client.system().info(brief(), &Empty::new()).await.map(drop).map_err(rpc_code)
}

async fn spinbox() -> Daemon {
    Daemon::with_flags(&binaries::fake_runc(), &["-host=spinbox"]).await
}

#[tokio::test]
async fn containers_go_and_those_after_it_run() {
    let daemon = Daemon::with_fake_runc().await;
    let (guest, events) = daemon.guest_and_events().await;
    let before = daemon.open_descriptors();
    running(&guest, "c", &["forever"]).await;
    create(&guest, "made", &["forever"]).await.expect("create");
    guest.bundle("unused", &json!({})).await.expect("bundle");
    let waiter = daemon.guest().await;
    let waiting = tokio::spawn(async move { waiter.wait("c", INIT).await });
    prepare(&guest).await.expect("prepared");
    let exit = waiting.await.expect("join").expect("the waiter is released");
    assert_eq!(exit.status, 137);
    assert_eq!(events.until("c", "delete").await, ["create", "start", "exit 137", "delete"]);
    daemon.assert_nothing_left(before).await;
    prepare(&guest).await.expect("there is nothing to do");
    running(&guest, "c", &["exit", "7"]).await;
    assert_eq!(guest.wait("c", INIT).await.expect("wait").status, 7);
    guest.delete("c", INIT).await.expect("delete");
    drop(guest);
    info(&daemon.guest().await).await.expect("it serves whoever comes");
    daemon.stop().await;
}

#[tokio::test]
async fn calls_at_once_share_a_run_and_nothing_begins_meanwhile() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    running(&guest, "c", &["forever"]).await;
    daemon.script(&json!({"delete": {"c": {"hold": "gate"}}}));
    let [first, second] = [daemon.guest().await, daemon.guest().await]
        .map(|guest| tokio::spawn(async move { prepare(&guest).await }));
    daemon.called("delete", "c").await;
    let refused = create(&guest, "d", &["forever"]).await.expect_err("nothing begins");
    assert_eq!(refused.code(), Some(Code::UNAVAILABLE));
    daemon.release("gate");
    first.await.expect("join").expect("prepared");
    second.await.expect("join").expect("prepared");
    assert_eq!(daemon.calls("delete", "c").len(), 1);
    daemon.stop().await;
}

#[tokio::test]
async fn a_step_that_hangs_does_not_hold_up_the_answer() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    running(&guest, "c", &["forever"]).await;
    daemon.script(&json!({"delete": {"c": {"hold": "gate"}}}));
    let answer = timeout(ANSWER, prepare(&guest)).await.expect("in time");
    assert_eq!(answer, Err(Code::DEADLINE_EXCEEDED));
    assert!(daemon.log().contains("step=\"stopping the containers\""), "{}", daemon.log());
    daemon.release("gate");
    prepare(&guest).await.expect("the run that goes on has ended");
    assert_eq!(daemon.calls("delete", "c").len(), 1);
    daemon.stop().await;
}

#[tokio::test]
async fn nothing_mounted_is_removed_with_a_bundle() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: mounting needs root");
        return;
    }
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    let disk = daemon.dir().join("disk");
    fs::create_dir(&disk).expect("make a folder");
    fs::write(disk.join("precious"), "kept").expect("write to it");
    let bundle = guest.bundle("b", &json!({})).await.expect("bundle");
    let rootfs = std::path::Path::new(&bundle).join("rootfs");
    let none = None::<&str>;
    let bound = nix::mount::mount(Some(&disk), &rootfs, none, nix::mount::MsFlags::MS_BIND, none);
    bound.expect("bind it");
    let user = fs::File::open(rootfs.join("precious")).expect("use it");
    prepare(&guest).await.expect("prepared");
    assert!(rootfs.join("precious").exists(), "what is in use is still mounted");
    drop(user);
    prepare(&guest).await.expect("prepared");
    assert!(!rootfs.exists(), "the bundle is removed");
    assert_eq!(fs::read_to_string(disk.join("precious")).expect("it is there"), "kept");
    daemon.stop().await;
}

#[tokio::test]
async fn a_guest_of_spinbox_that_is_left_alone_ends() {
    let daemon = spinbox().await;
    let (guest, events) = daemon.guest_and_events().await;
    let idle = daemon.guest().await;
    running(&guest, "c", &["forever"]).await;
    prepare(&guest).await.expect("prepared");
    info(&guest).await.expect("it waits for this very connection");
    drop((guest, events));
    // A connection that only pings is no sign of use, nor is one that says nothing.
    drop(daemon.guest().await);
    daemon.logged("stopping cause=PrepareShutdown").await;
    drop(idle);
    daemon.stopped_in_order().await;
}

#[tokio::test]
async fn a_guest_of_spinbox_that_is_asked_for_more_stays() {
    let daemon = spinbox().await;
    let other = daemon.guest().await;
    let guest = daemon.guest().await;
    prepare(&guest).await.expect("prepared");
    running(&other, "late", &["forever"]).await;
    drop(guest);
    daemon.logged("not switched off").await;
    info(&other).await.expect("it goes on");
    prepare(&other).await.expect("prepared again");
    drop(other);
    daemon.logged("stopping cause=PrepareShutdown").await;
    daemon.stopped_in_order().await;
}

#[tokio::test]
async fn a_stop_in_the_middle_takes_what_is_left_with_it() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    running(&guest, "c", &["forever"]).await;
    daemon.script(&json!({"delete": {"c": {"hold": "gate"}}}));
    let preparing = tokio::spawn(async move { prepare(&guest).await });
    daemon.called("delete", "c").await;
    daemon.terminate();
    daemon.logged("stopping cause=SIGTERM").await;
    daemon.release("gate");
    assert_eq!(preparing.await.expect("join"), Err(Code::UNAVAILABLE));
    daemon.stopped_in_order().await;
}

#[tokio::test]
async fn a_guest_of_spinbox_is_switched_off_after_a_step_that_took_long() {
    let daemon = spinbox().await;
    let guest = daemon.guest().await;
    running(&guest, "c", &["forever"]).await;
    daemon.script(&json!({"delete": {"c": {"hold": "gate"}}}));
    assert_eq!(prepare(&guest).await, Err(Code::DEADLINE_EXCEEDED));
    drop(guest);
    // Longer than it has to be left alone.
    tokio::time::sleep(ABSENCE).await;
    daemon.release("gate");
    daemon.logged("stopping cause=PrepareShutdown").await;
    daemon.stopped_in_order().await;
}

#[tokio::test]
async fn a_delete_that_hangs_does_not_keep_a_guest_of_spinbox_on() {
    let daemon = spinbox().await;
    let (guest, host) = (daemon.guest().await, daemon.guest().await);
    running(&guest, "c", &["exit", "0"]).await;
    guest.wait("c", INIT).await.expect("wait");
    daemon.script(&json!({"delete": {"c": {"hold": "gate"}}}));
    let deleting = tokio::spawn(async move { guest.delete("c", INIT).await });
    daemon.called("delete", "c").await;
    prepare(&host).await.expect("prepared");
    drop(host);
    daemon.logged("stopping cause=PrepareShutdown").await;
    daemon.release("gate");
    deleting.await.expect("join").expect("deleted");
    daemon.stopped_in_order().await;
}

#[tokio::test]
async fn no_bundle_is_made_to_be_removed_at_once_and_nothing_is_frozen() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    running(&guest, "c", &["forever"]).await;
    daemon.script(&json!({"delete": {"c": {"hold": "gate"}}}));
    let first = daemon.guest().await;
    let preparing = tokio::spawn(async move { prepare(&first).await });
    daemon.called("delete", "c").await;
    let refused = guest.bundle("late", &json!({})).await.expect_err("nothing begins");
    assert_eq!(refused.code(), Some(Code::UNAVAILABLE));
    let refused = guest.client.freeze_filesystems().await.expect_err("what is frozen cannot be unmounted");
    assert_eq!(refused.code(), Some(Code::UNAVAILABLE));
    daemon.release("gate");
    preparing.await.expect("join").expect("prepared");
    guest.bundle("late", &json!({})).await.expect("afterwards it is made");
    guest.client.freeze_filesystems().await.expect("freeze");
    daemon.stop().await;
}
