//! The size of a terminal.

use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::INIT;
use vminitd_test_support::calls::running as running_plain;
use vminitd_test_support::{Daemon, Machine};

use crate::rig::{created, end, exec, resize, Screen};

#[tokio::test]
async fn an_init_starts_with_the_size_it_was_given_before() {
    let Some(machine) = Machine::start().await else { return };
    let mut screen = Screen::open(&machine.guest).await;
    created(&machine, "c", &["/bin/sh", "-c", "busybox stty size; read x; busybox stty size"], &screen).await;
    resize(&machine.guest, "c", INIT, 101, 41).await.expect("resize");
    machine.guest.start("c", INIT).await.expect("start");
    screen.shows("41 101\r\n").await;
    resize(&machine.guest, "c", INIT, 132, 43).await.expect("resize");
    screen.types(b"\n").await;
    screen.shows("43 132\r\n").await;
    machine.guest.wait("c", INIT).await.expect("wait");
    resize(&machine.guest, "c", INIT, 80, 24).await.expect("an init may be resized in any state");
    machine.guest.delete("c", INIT).await.expect("delete");
    assert_eq!(resize(&machine.guest, "c", INIT, 80, 24).await, Err(Code::NOT_FOUND));
    machine.daemon.stop().await;
}

#[tokio::test]
async fn an_exec_starts_with_the_size_it_was_given_before() {
    let Some(machine) = Machine::start().await else { return };
    machine.sleeping("c").await;
    let mut screen = Screen::open(&machine.guest).await;
    let script = "busybox stty size; read x; busybox stty size";
    exec(&machine.guest, "c", "e", &["/bin/sh", "-c", script], &screen).await;
    resize(&machine.guest, "c", "e", 90, 30).await.expect("resize");
    resize(&machine.guest, "c", "e", 101, 41).await.expect("resize");
    machine.guest.start("c", "e").await.expect("start");
    screen.shows("41 101\r\n").await;
    resize(&machine.guest, "c", "e", 132, 43).await.expect("resize");
    screen.types(b"\n").await;
    screen.shows("43 132\r\n").await;
    machine.guest.wait("c", "e").await.expect("wait");
    assert_eq!(resize(&machine.guest, "c", "e", 80, 24).await, Err(Code::FAILED_PRECONDITION));
    machine.guest.delete("c", "e").await.expect("delete");
    assert_eq!(resize(&machine.guest, "c", "e", 80, 24).await, Err(Code::NOT_FOUND));
    end(machine, "c").await;
}

#[tokio::test]
async fn a_process_without_a_terminal_has_no_size_and_sizes_have_sixteen_bits() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    running_plain(&guest, "c", &["forever"]).await;
    resize(&guest, "c", INIT, 80, 24).await.expect("nothing to resize is no error");
    for (width, height) in [(65_536, 24), (80, u32::MAX)] {
        assert_eq!(resize(&guest, "c", INIT, width, height).await, Err(Code::INVALID_ARGUMENT));
    }
    assert_eq!(resize(&guest, "c", "none", 80, 24).await, Err(Code::NOT_FOUND));
    daemon.stop().await;
}
