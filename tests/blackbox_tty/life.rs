//! Terminals that come and go: who has one, what it leads to, what is left of it.

use std::fs;

use tokio::time::timeout;
use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::{Exec, INIT};
use vminit_shim::spec;
use vminitd_test_support::calls::{create_with_uris, reap, state};
use vminitd_test_support::{code, Daemon, Machine, LIMIT};

use crate::rig::{closed, create, created, end, run_exec, Screen};

/// How many terminals come and go without one being left.
const MANY: usize = 200;

#[tokio::test]
async fn an_exec_has_a_terminal_or_not_whatever_its_init_has() {
    let Some(machine) = Machine::start().await else { return };
    let screen = Screen::open(&machine.guest).await;
    created(&machine, "tty", &["/bin/sleep", "1000"], &screen).await;
    machine.guest.start("tty", INIT).await.expect("start");
    machine.sleeping("plain").await;
    let args = ["/bin/sh", "-c", "busybox tty >/dev/null && echo yes || echo no"];
    let process = spec::process(&args);
    let plain = Exec { container_id: "tty", exec_id: "e", process: &process };
    let finished = machine.guest.run_exec(plain).await.expect("run");
    assert_eq!(finished.stdout, b"no\n");
    assert_eq!(run_exec(&machine.guest, "plain", "e", &args).await.1, "yes\r\n");
    machine.guest.kill("plain", INIT, 9).await.expect("kill");
    end(machine, "tty").await;
}

#[tokio::test]
async fn terminals_come_and_go_and_none_is_left() {
    let Some(machine) = Machine::start().await else { return };
    machine.sleeping("c").await;
    let pid = state(&machine.guest, "c", INIT).await.expect("state").pid;
    let before = machine.daemon.open_descriptors();
    for n in 0..MANY {
        let (status, shown) = run_exec(&machine.guest, "c", &format!("e{n}"), &["/bin/echo", "here"]).await;
        assert_eq!((status, shown.as_str()), (0, "here\r\n"));
    }
    let left = fs::read_dir(format!("/proc/{pid}/root/dev/pts")).expect("list terminals");
    let left: Vec<_> = left.map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(left, ["ptmx"]);
    closed(&machine.daemon, before).await;
    end(machine, "c").await;
}

/// The third URI is not looked at: a terminal has one output.
#[tokio::test]
async fn a_terminal_has_no_stderr_and_is_not_for_files() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    let before = daemon.open_descriptors();
    let mut screen = Screen::open(&guest).await;
    let program = ["write", "stdout", "out", ";", "write", "stderr", "err", ";", "exit", "0"];
    let config = spec::container(&program);
    let [stdin, stdout, _] = screen.uris();
    let refused = create_with_uris(&guest, "c", &config, [stdin, "file:///tmp/out", ""], true).await;
    assert_eq!(code(refused), Code::UNIMPLEMENTED);
    daemon.remove_bundle("c");
    create_with_uris(&guest, "c", &config, [stdin, stdout, "nothing at all"], true).await.expect("create");
    let shown = screen.collect();
    guest.start("c", INIT).await.expect("start");
    reap(&guest, "c", INIT).await;
    assert_eq!(shown.await.expect("join"), b"outerr");
    drop(screen);
    daemon.assert_nothing_left(before).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_terminal_goes_with_a_container_that_was_never_started() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    let before = daemon.open_descriptors();
    let mut screen = Screen::open(&guest).await;
    create(&guest, "c", &spec::container(&["forever"]), &screen).await.expect("create");
    let shown = screen.collect();
    assert_eq!(guest.delete("c", INIT).await.expect("delete").status, 137);
    assert!(shown.await.expect("join").is_empty());
    drop(screen);
    daemon.assert_nothing_left(before).await;
    daemon.stop().await;
}

/// About as much as a socket holds: some of it is still on this side when the stop begins.
#[tokio::test]
async fn a_stop_leaves_time_to_read_what_a_terminal_has_shown() {
    const HALF: usize = 95_000;
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    let mut screen = Screen::open(&guest).await;
    let (first, second) = ("x".repeat(HALF), "y".repeat(HALF));
    let program = ["write", "stdout", &first, ";", "write", "stdout", &second, ";", "exit", "0"];
    create(&guest, "c", &spec::container(&program), &screen).await.expect("create");
    guest.start("c", INIT).await.expect("start");
    timeout(LIMIT, guest.wait("c", INIT)).await.expect("in time").expect("wait");
    daemon.terminate();
    daemon.logged("stopping").await;
    let shown = screen.collect().await.expect("join");
    assert_eq!(shown.len(), 2 * HALF);
    daemon.stopped_in_order().await;
}
