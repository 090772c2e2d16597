//! What a process writes to its terminal.

use std::time::Duration;

use tokio::time::timeout;
use vminit_shim::api::containerd::api::DeleteRequest;
use vminit_shim::client::{context, INIT};
use vminitd_test_support::{Machine, ABSENCE, LIMIT};

use crate::rig::{closed, created, end, exec, finish, run, run_exec, Screen};

/// `seq` as a terminal shows it: the line discipline makes two characters of every end of a line.
fn numbers(last: usize) -> String {
    (1..=last).map(|n| format!("{n}\r\n")).collect()
}

#[track_caller]
fn assert_shown(shown: &str, expected: &str) {
    let place = shown.bytes().zip(expected.bytes()).position(|(a, b)| a != b);
    assert!(shown == expected, "{} of {} bytes, differing at {place:?}", shown.len(), expected.len());
}

#[tokio::test]
async fn a_million_lines_on_a_terminal_are_complete_ten_times() {
    let Some(machine) = Machine::start().await else { return };
    let before = machine.daemon.open_descriptors();
    let expected = numbers(1_000_000);
    for n in 0..5 {
        let (status, shown) =
            run(&machine, &format!("seq-{n}"), &["/bin/busybox", "seq", "1", "1000000"]).await;
        assert_eq!(status, 0);
        assert_shown(&shown, &expected);
    }
    machine.daemon.assert_nothing_left(before).await;
    machine.sleeping("c").await;
    for n in 0..5 {
        let args = ["/bin/busybox", "seq", "1", "1000000"];
        let (status, shown) = run_exec(&machine.guest, "c", &format!("seq-{n}"), &args).await;
        assert_eq!(status, 0);
        assert_shown(&shown, &expected);
    }
    end(machine, "c").await;
}

#[tokio::test]
async fn output_is_complete_when_stdin_ends_first() {
    let Some(machine) = Machine::start().await else { return };
    let mut screen = Screen::open(&machine.guest).await;
    created(&machine, "c", &["/bin/busybox", "seq", "1", "300000"], &screen).await;
    screen.stdin = None;
    let (status, shown) = finish(&machine.guest, "c", INIT, screen).await;
    assert_eq!(status, 0);
    assert_shown(&shown, &numbers(300_000));
    machine.daemon.stop().await;
}

#[tokio::test]
async fn a_terminal_that_is_closed_and_opened_again_has_not_hung_up() {
    let Some(machine) = Machine::start().await else { return };
    machine.sleeping("c").await;
    // While nobody has it open, a hang-up would be seen at once and would end the output.
    let script = format!(
        "t=$(busybox tty); echo one; exec <&- >&- 2>&-; sleep {}; exec <$t >$t 2>&1; echo two",
        ABSENCE.as_secs_f64()
    );
    let (status, shown) = run_exec(&machine.guest, "c", "e", &["/bin/sh", "-c", &script]).await;
    assert_eq!((status, shown.as_str()), (0, "one\r\ntwo\r\n"));
    end(machine, "c").await;
}

#[tokio::test]
async fn a_screen_that_goes_away_does_not_block_the_process() {
    let Some(machine) = Machine::start().await else { return };
    let screen = Screen::open(&machine.guest).await;
    created(&machine, "gone", &["/bin/busybox", "seq", "1", "300000"], &screen).await;
    drop(screen);
    machine.guest.start("gone", INIT).await.expect("start");
    assert_eq!(machine.guest.wait("gone", INIT).await.expect("wait").status, 0);
    machine.daemon.stop().await;
}

#[tokio::test]
async fn a_terminal_without_streams_is_read_all_the_same() {
    let Some(machine) = Machine::start().await else { return };
    let before = machine.daemon.open_descriptors();
    let args = ["/bin/busybox", "seq", "1", "300000"];
    created(&machine, "null", &args, &Screen::default()).await;
    machine.guest.start("null", INIT).await.expect("start");
    assert_eq!(machine.guest.wait("null", INIT).await.expect("wait").status, 0);
    machine.guest.delete("null", INIT).await.expect("delete");
    machine.daemon.assert_nothing_left(before).await;
    machine.daemon.stop().await;
}

#[tokio::test]
async fn neither_exit_nor_delete_waits_for_a_child_that_keeps_the_terminal() {
    let Some(machine) = Machine::start().await else { return };
    machine.sleeping("c").await;
    let before = machine.daemon.open_descriptors();
    let mut screen = Screen::open(&machine.guest).await;
    let script = "busybox setsid sleep 1000 & echo bye; exit 6";
    exec(&machine.guest, "c", "e", &["/bin/sh", "-c", script], &screen).await;
    machine.guest.start("c", "e").await.expect("start");
    let exit = timeout(LIMIT, machine.guest.wait("c", "e")).await.expect("in time").expect("wait");
    assert_eq!(exit.status, 6);
    screen.shows("bye").await;
    // A caller in a hurry: a Delete waits 2 s less than that for the output.
    let delete = DeleteRequest { id: "c".into(), exec_id: "e".into(), ..Default::default() };
    let hurry = context(Duration::from_secs(3), "default");
    machine.guest.client.task().delete(hurry, &delete).await.expect("delete");
    let rest = screen.collect().await.expect("join");
    assert!(rest.is_empty(), "{rest:?}");
    drop(screen);
    closed(&machine.daemon, before).await;
    end(machine, "c").await;
}
