//! What is typed at a terminal, and the end of that.

use vminit_shim::client::Guest;
use vminitd_test_support::calls::close_io;

use vminitd_test_support::{Machine, ABSENCE};

use crate::rig::{end, exec, Screen};

#[tokio::test]
async fn an_interactive_cat_ends_at_control_d() {
    let Some(machine) = Machine::start().await else { return };
    machine.sleeping("c").await;
    let mut screen = Screen::open(&machine.guest).await;
    exec(&machine.guest, "c", "cat", &["/bin/cat"], &screen).await;
    machine.guest.start("c", "cat").await.expect("start");
    for line in ["one", "two"] {
        screen.types(format!("{line}\n").as_bytes()).await;
        // The echo of the terminal, then the line from cat.
        screen.shows(&format!("{line}\r\n{line}\r\n")).await;
    }
    screen.types(b"\x04").await;
    assert_eq!(machine.guest.wait("c", "cat").await.expect("wait").status, 0);
    end(machine, "c").await;
}

#[tokio::test]
async fn four_mebibytes_of_input_arrive() {
    let Some(machine) = Machine::start().await else { return };
    machine.sleeping("c").await;
    let mut screen = Screen::open(&machine.guest).await;
    let script = "busybox stty raw -echo; echo ready; head -c 4194304 | busybox md5sum";
    exec(&machine.guest, "c", "e", &["/bin/sh", "-c", script], &screen).await;
    machine.guest.start("c", "e").await.expect("start");
    screen.shows("ready").await;
    screen.types(&vec![0; 4 << 20]).await;
    // The sum of as many zeroes.
    screen.shows("b5cfa9d6c8febd618f91ac2843d50a1c").await;
    assert_eq!(machine.guest.wait("c", "e").await.expect("wait").status, 0);
    end(machine, "c").await;
}

#[tokio::test]
async fn the_end_of_stdin_does_not_hang_up() {
    stdin_ends(async |_, screen| screen.stdin = None).await;
}

#[tokio::test]
async fn close_io_does_not_hang_up() {
    stdin_ends(async |guest, _| {
        close_io(guest, "c", "e", true).await.expect("close");
    })
    .await;
}

/// Ends the stdin of a process that goes on and says so.
async fn stdin_ends(ending: impl AsyncFnOnce(&Guest, &mut Screen)) {
    let Some(machine) = Machine::start().await else { return };
    machine.sleeping("c").await;
    let mut screen = Screen::open(&machine.guest).await;
    // A hang-up would come with the end of stdin, before `alive`.
    let script = format!(
        "trap 'echo hung up; exit 1' HUP; echo ready; read line; echo got $line; sleep {}; echo alive",
        ABSENCE.as_secs_f64()
    );
    exec(&machine.guest, "c", "e", &["/bin/sh", "-c", &script], &screen).await;
    machine.guest.start("c", "e").await.expect("start");
    screen.shows("ready").await;
    screen.types(b"a line\n").await;
    ending(&machine.guest, &mut screen).await;
    screen.shows("got a line").await;
    screen.shows("alive").await;
    assert_eq!(machine.guest.wait("c", "e").await.expect("wait").status, 0);
    end(machine, "c").await;
}
