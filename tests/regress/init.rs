//! What comes with being everybody's parent: orphans, fork storms, signals. The daemon is an ordinary process here,
//! and a subreaper as PID 1 is.

use vminit_shim::api::containerd::api::Status;
use vminit_shim::client::INIT;
use vminitd_test_support::calls::{exec, running, status};
use vminitd_test_support::once::run_vminitd;
use vminitd_test_support::{deadly_signals, Daemon};

/// Orphans that come to the daemon.
const ORPHANS: usize = 1_000;

/// Looks at a container while another one forks without end.
const LOOKS: usize = 200;

/// Whatever its subshell is given to do does it as an orphan: the subshell does not wait.
const ORPHAN: &str = "(true &)";

/// Init reaped only those it knew: microsandbox#1201, coder/coder#22866. A second waiter took the exits of the first:
/// containerd/containerd#583, #2855, tinylabscom/mvm#2039, #2041; tokio-rs/tokio#2685; kata-containers/agent#886.
#[tokio::test]
async fn a_thousand_orphans_leave_no_zombie_and_disturb_no_status() {
    let daemon = Daemon::with_fake_runc().await;
    let (guest, events) = daemon.guest_and_events().await;
    let before = daemon.open_descriptors();
    running(&guest, "own", &["forever"]).await;
    let script = format!("i=0; while [ $i -lt {ORPHANS} ]; do {ORPHAN}; i=$((i+1)); done; exit 77");
    running(&guest, "orphans", &["/bin/sh", "-c", &script]).await;
    let mut n = 0;
    while status(&guest, "orphans", INIT).await != Status::STOPPED {
        let (name, code) = (format!("e{n}"), n % 126);
        exec(&guest, "own", &name, &["exit", &code.to_string()]).await.expect("exec");
        guest.start("own", &name).await.expect("start");
        assert_eq!(guest.wait("own", &name).await.expect("wait").status, code, "{name}");
        n += 1;
    }
    assert!(n > 0, "there was nothing to disturb");
    assert_eq!(guest.wait("orphans", INIT).await.expect("wait").status, 77);
    guest.kill("own", INIT, 9).await.expect("kill");
    events.until("own", "exit 137").await;
    for id in ["own", "orphans"] {
        guest.delete(id, INIT).await.expect("delete");
    }
    daemon.assert_nothing_left(before).await;
    daemon.stop().await;
}

/// Reaping without a bound kept init from everything else: microsandbox#1212.
#[tokio::test]
async fn a_fork_storm_starves_no_call() {
    let daemon = Daemon::with_fake_runc().await;
    let (guest, events) = daemon.guest_and_events().await;
    let storm = format!("while true; do {ORPHAN}; done");
    running(&guest, "storm", &["/bin/sh", "-c", &storm]).await;
    for _ in 0..LOOKS {
        assert_eq!(status(&guest, "storm", INIT).await, Status::RUNNING);
    }
    running(&guest, "calm", &["exit", "5"]).await;
    assert_eq!(guest.wait("calm", INIT).await.expect("wait").status, 5);
    guest.delete("calm", INIT).await.expect("delete");
    events.until("calm", "delete").await;
    assert_eq!(status(&guest, "storm", INIT).await, Status::RUNNING, "it storms still");
    guest.kill("storm", INIT, 9).await.expect("kill");
    assert_eq!(guest.wait("storm", INIT).await.expect("wait").status, 137);
    daemon.stop().await;
}

/// The bare number of the signal was reported: kata-containers/kata-containers#13241.
#[tokio::test]
async fn a_signal_is_reported_as_128_and_its_number() {
    let daemon = Daemon::with_fake_runc().await;
    let (guest, events) = daemon.guest_and_events().await;
    for signal in deadly_signals() {
        let id = format!("s{signal}");
        // A shell, because Rust's own programs handle two of them.
        running(&guest, &id, &["/bin/sh", "-c", &format!("kill -{signal} $$")]).await;
        assert_eq!(guest.wait(&id, INIT).await.expect("wait").status, 128 + signal);
        events.until(&id, &format!("exit {}", 128 + signal)).await;
    }
    daemon.stop().await;
}

/// An init that ends takes the kernel with it, so in a VM it never does (`tests/vm/boot.rs`); an ordinary process says that
/// it failed: kata-containers/kata-containers#9429, #9430.
#[tokio::test]
async fn a_daemon_that_cannot_serve_says_why_and_fails() {
    let dir = tempfile::tempdir().expect("make a folder");
    let state = dir.path().display().to_string();
    let (nowhere, stream) = (format!("unix://{state}/no/folder"), format!("unix://{state}/stream"));
    let args = ["-stream-listen", &stream, "-state-dir", &state, "-listen", &nowhere];
    let (ended, said) = run_vminitd(&args);
    assert_eq!((ended.code(), said.contains("bind the RPC port")), (Some(1), true), "{said}");
    let (ended, said) = run_vminitd(&args[..4]);
    assert_eq!((ended.code(), said.contains("usage:")), (Some(2), true), "{said}");
}
