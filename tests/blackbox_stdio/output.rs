//! Output: every byte, whoever reads it and however; and processes that no reader can hold up.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::{sleep, timeout};
use vminit_shim::api::containerd::api::DeleteRequest;
use vminit_shim::client::{context, Stdio, INIT};
use vminitd_test_support::chance::noise;
use vminitd_test_support::{poll_until, LIMIT, MIB};

use crate::rig::{noise_file, stdout, Reader, Rig, Sum};

/// More than a pipe and a socket hold.
const MUCH: usize = 8 * MIB;

/// How long the exit, and Delete, wait for output that is not taken (`io_drain_ms` and
/// `delete_drain_ms` in `src/config/key.rs`).
const EXIT_DRAIN: Duration = Duration::from_millis(500);
const DELETE_DRAIN: Duration = Duration::from_secs(10);

/// Longer than an exit waits: it is Delete that still waits for what comes so late.
const LATE: Duration = Duration::from_secs(2);

/// How late a busy machine may make either; less than what is between them.
const MARGIN: Duration = Duration::from_secs(5);

/// Runs `cat` of so much noise as an init and as an exec, which both exit at once; Wait and Delete follow at once.
async fn check(bytes: usize, reader: Reader) {
    let rig = Rig::start().await;
    let before = rig.daemon.open_descriptors();
    let file = rig.path("noise");
    let expected = noise_file(&file, bytes);
    let args = ["/bin/cat", file.to_str().expect("a path")];
    rig.run("holder", &["forever"], &Stdio::default()).await;
    let mut init = rig.guest.stdio(false).await.expect("streams");
    let mut exec = rig.guest.stdio(false).await.expect("streams");
    rig.create("c", &args, &init).await;
    rig.exec("holder", "e", &args, &exec).await;
    let readers = [&mut init, &mut exec].map(|stdio| tokio::spawn(reader.read(stdout(stdio))));
    for (id, exec_id) in [("c", INIT), ("holder", "e")] {
        rig.guest.start(id, exec_id).await.expect("start");
    }
    let (init_status, exec_status) = tokio::join!(rig.reap("c", INIT), rig.reap("holder", "e"));
    assert_eq!((init_status, exec_status), (0, 0));
    for reader in readers {
        assert_eq!(reader.await.expect("join"), expected);
    }
    drop((init, exec));
    rig.guest.kill("holder", INIT, 9).await.expect("kill");
    rig.reap("holder", INIT).await;
    rig.daemon.assert_nothing_left(before).await;
    rig.daemon.stop().await;
}

/// containerd#12364, nerdbox#211 and #236, kata#12376 (a short exec loses all of it), arcbox#256 (writes over 8 KiB).
#[tokio::test]
async fn a_burst_before_the_exit_arrives_whole() {
    check(64 * MIB, Reader::FAST).await;
}

/// nerdbox#234: a drain that is too short.
#[tokio::test]
async fn a_burst_arrives_whole_at_a_reader_of_a_mebibyte_a_second() {
    check(8 * MIB, Reader { block: 64 * 1024, every: Duration::from_micros(62_500) }).await;
}

#[tokio::test]
async fn a_burst_arrives_whole_at_a_reader_of_single_bytes() {
    check(64 * 1024, Reader { block: 1, every: Duration::ZERO }).await;
}

/// nerdbox needs the end promptly: its Wait answers only once it has read it.
#[tokio::test]
async fn output_ends_with_its_last_writer_and_not_at_delete() {
    let rig = Rig::start().await;
    let mut stdio = rig.guest.stdio(false).await.expect("streams");
    rig.run("c", &["write", "stdout", "x", ";", "exit", "0"], &stdio).await;
    assert_eq!(Reader::FAST.read(stdout(&mut stdio)).await, Sum::of(b"x"));
    assert_eq!(rig.reap("c", INIT).await, 0);
    rig.daemon.stop().await;
}

/// nerdbox#171, containerization#713.
#[tokio::test]
async fn a_reader_that_stalls_holds_up_its_own_process_only() {
    let rig = Rig::start().await;
    let file = rig.path("noise");
    let expected = noise_file(&file, MUCH);
    let args = ["/bin/cat", file.to_str().expect("a path")];
    let mut stalled = rig.guest.stdio(false).await.expect("streams");
    rig.run("stalled", &args, &stalled).await;
    for id in ["a", "b"] {
        let mut stdio = rig.guest.stdio(false).await.expect("streams");
        rig.run(id, &args, &stdio).await;
        assert_eq!(Reader::FAST.read(stdout(&mut stdio)).await, expected);
        assert_eq!(rig.reap(id, INIT).await, 0);
    }
    // It has been there all the time, and has lost nothing.
    assert_eq!(Reader::FAST.read(stdout(&mut stalled)).await, expected);
    assert_eq!(rig.reap("stalled", INIT).await, 0);
    rig.daemon.stop().await;
}

/// runc-shim 7817d7e (EPIPE); kata#10680 (a full log pipe blocks the container).
#[tokio::test]
async fn a_reader_that_disappears_half_way_does_not_hold_up_or_kill_the_process() {
    let rig = Rig::start().await;
    let file = rig.path("noise");
    noise_file(&file, MUCH);
    let mut stdio = rig.guest.stdio(false).await.expect("streams");
    rig.run("c", &["/bin/cat", file.to_str().expect("a path")], &stdio).await;
    let mut socket = stdout(&mut stdio);
    socket.read_exact(&mut vec![0; MIB]).await.expect("read");
    drop((socket, stdio));
    assert_eq!(rig.reap("c", INIT).await, 0);
    rig.daemon.stop().await;
}

/// kata#9071: what a process wrote last is read although it died of a signal.
#[tokio::test]
async fn output_of_a_killed_process_arrives() {
    let rig = Rig::start().await;
    let mut stdio = rig.guest.stdio(false).await.expect("streams");
    rig.run("c", &["write", "stdout", "last words", ";", "signal", "9"], &stdio).await;
    assert_eq!(rig.reap("c", INIT).await, 137);
    assert_eq!(Reader::FAST.read(stdout(&mut stdio)).await, Sum::of(b"last words"));
    rig.daemon.stop().await;
}

// ---- children that keep the output open

/// containerd#7802 and #9568, kata#4747: the exit comes within its bound, Delete waits for the rest.
#[tokio::test]
async fn what_a_child_writes_soon_after_the_exit_of_an_exec_arrives() {
    let rig = Rig::start().await;
    rig.run("c", &["forever"], &Stdio::default()).await;
    let mut stdio = rig.guest.stdio(false).await.expect("streams");
    let gate = rig.path("gate");
    let script = format!("(until [ -e {} ]; do sleep 0.1; done; echo late) & exit 6", gate.display());
    rig.exec("c", "e", &["/bin/sh", "-c", &script], &stdio).await;
    rig.guest.start("c", "e").await.expect("start");
    // The child writes only now that the exit has been told.
    assert_eq!(rig.guest.wait("c", "e").await.expect("wait").status, 6);
    let held = async {
        sleep(LATE).await;
        std::fs::write(&gate, "").expect("let the child go on");
    };
    let (deleted, ()) = tokio::join!(rig.guest.delete("c", "e"), held);
    deleted.expect("delete");
    assert_eq!(Reader::FAST.read(stdout(&mut stdio)).await, Sum::of(b"late\n"));
    rig.daemon.stop().await;
}

/// containerd#13377: a drain as long as the caller's own patience starves the rest of Delete.
#[tokio::test]
async fn delete_ends_before_its_caller_loses_patience_although_a_child_keeps_stdout() {
    let rig = Rig::start().await;
    rig.run("c", &["forever"], &Stdio::default()).await;
    let stdio = rig.guest.stdio(false).await.expect("streams");
    rig.exec("c", "e", &["/bin/sh", "-c", "sleep 30 & exit 6"], &stdio).await;
    rig.guest.start("c", "e").await.expect("start");
    assert_eq!(rig.guest.wait("c", "e").await.expect("wait").status, 6);
    let request = DeleteRequest { id: "c".into(), exec_id: "e".into(), ..Default::default() };
    let hasty = context(Duration::from_secs(4), "default");
    rig.guest.client.task().delete(hasty, &request).await.expect("delete in time");
    rig.daemon.stop().await;
}

/// A process must not be killed by SIGPIPE because its host has lost interest.
#[tokio::test]
async fn a_child_that_writes_after_its_execs_delete_lives_on() {
    let rig = Rig::start().await;
    rig.run("c", &["forever"], &Stdio::default()).await;
    let mut stdio = rig.guest.stdio(false).await.expect("streams");
    let (file, gate, survived) = (rig.path("noise"), rig.path("gate"), rig.path("survived"));
    std::fs::write(&file, noise(MUCH)).expect("write a file");
    let script = format!(
        "(until [ -e {} ]; do sleep 0.1; done; cat {} && : > {}) & exit 0",
        gate.display(),
        file.display(),
        survived.display()
    );
    rig.exec("c", "e", &["/bin/sh", "-c", &script], &stdio).await;
    rig.guest.start("c", "e").await.expect("start");
    rig.guest.wait("c", "e").await.expect("wait");
    let request = DeleteRequest { id: "c".into(), exec_id: "e".into(), ..Default::default() };
    let hasty = context(Duration::from_secs(3), "default");
    rig.guest.client.task().delete(hasty, &request).await.expect("delete");
    // Its streams are closed all the same.
    let mut socket = stdout(&mut stdio);
    assert_eq!(timeout(LIMIT, socket.read(&mut [0])).await.expect("closed").expect("an end"), 0);
    std::fs::write(&gate, "").expect("let the child go on");
    let look = || survived.exists().then_some(()).ok_or_else(|| "it is not there".to_owned());
    poll_until(LIMIT, "the child's own file", look).await;
    rig.daemon.stop().await;
}

/// A reader that never reads: the exit is told within its bound, and Delete ends within its own.
#[tokio::test]
async fn a_reader_that_never_reads_holds_up_neither_exit_nor_delete_for_ever() {
    let rig = Rig::start().await;
    let stdio = rig.guest.stdio(false).await.expect("streams");
    // As much as a pipe and a socket hold together blocks the relay and not the process.
    rig.run("c", &["/bin/sh", "-c", "head -c 240000 /dev/zero"], &stdio).await;
    let exit = timeout(EXIT_DRAIN + MARGIN, rig.guest.wait("c", INIT)).await;
    assert_eq!(exit.expect("within its bound").expect("wait").status, 0);
    let deleted = timeout(DELETE_DRAIN + MARGIN, rig.guest.delete("c", INIT)).await;
    deleted.expect("within its bound").expect("delete");
    rig.daemon.stop().await;
}
