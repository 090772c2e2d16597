//! Input: every byte that was written before its end, by either way to end it.

use std::io::Write;
use std::path::Path;

use tokio::io::AsyncWriteExt;
use tokio::time::sleep;
use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::{Stdio, INIT};
use vminitd_test_support::chance::noise;
use vminitd_test_support::{ABSENCE, MIB};

use crate::rig::{stdin, stdout, write, Reader, Rig, Sum};

/// More than a pipe and a socket hold.
const MUCH: usize = 16 * MIB;

/// A `cat` that begins once the test says so.
fn gated_cat(gate: &Path) -> String {
    format!("until [ -e {} ]; do sleep 0.1; done; exec cat", gate.display())
}

#[tokio::test]
async fn all_goes_through_cat_and_back_and_cat_ends_with_close_io() {
    let rig = Rig::start().await;
    let before = rig.daemon.open_descriptors();
    let bytes = noise(64 * MIB);
    let expected = Sum::of(&bytes);
    let mut stdio = rig.guest.stdio(true).await.expect("streams");
    rig.run("c", &["/bin/cat"], &stdio).await;
    let reader = tokio::spawn(Reader::FAST.read(stdout(&mut stdio)));
    let mut socket = stdin(&mut stdio);
    write(&mut socket, &bytes).await;
    assert_eq!(rig.close_io("c", INIT, true).await, Ok(()));
    assert_eq!(reader.await.expect("join"), expected);
    assert_eq!(rig.reap("c", INIT).await, 0);
    drop((socket, stdio));
    rig.daemon.assert_nothing_left(before).await;
    rig.daemon.stop().await;
}

/// microsoft/opengcs#295, arcbox#269: a half-close is passed on, and the other direction lives.
#[tokio::test]
async fn a_half_close_ends_stdin_and_leaves_stdout() {
    let rig = Rig::start().await;
    let mut stdio = rig.guest.stdio(true).await.expect("streams");
    rig.run("c", &["/bin/sh", "-c", "cat; echo end"], &stdio).await;
    let mut socket = stdin(&mut stdio);
    write(&mut socket, b"text ").await;
    socket.shutdown().await.expect("half-close");
    assert_eq!(Reader::FAST.read(stdout(&mut stdio)).await, Sum::of(b"text end\n"));
    assert_eq!(rig.reap("c", INIT).await, 0);
    rig.daemon.stop().await;
}

/// containerd#2439, moby#37870, nerdctl#5042, containerization#478: it is remembered, with what was written before.
#[tokio::test]
async fn close_io_may_come_before_the_start() {
    let rig = Rig::start().await;
    let (mut init, mut exec) =
        (rig.guest.stdio(true).await.expect("streams"), rig.guest.stdio(true).await.expect("streams"));
    rig.create("c", &["/bin/cat"], &init).await;
    rig.run("holder", &["forever"], &Stdio::default()).await;
    rig.exec("holder", "e", &["/bin/cat"], &exec).await;
    for (id, exec_id, stdio) in [("c", INIT, &mut init), ("holder", "e", &mut exec)] {
        let mut socket = stdin(stdio);
        write(&mut socket, b"before").await;
        assert_eq!(rig.close_io(id, exec_id, true).await, Ok(()), "{id}/{exec_id}");
        rig.guest.start(id, exec_id).await.expect("start");
        assert_eq!(Reader::FAST.read(stdout(stdio)).await, Sum::of(b"before"), "{id}/{exec_id}");
        assert_eq!(rig.reap(id, exec_id).await, 0, "{id}/{exec_id}");
    }
    rig.daemon.stop().await;
}

#[tokio::test]
async fn close_io_may_come_again_after_the_exit_and_for_what_has_no_stdin() {
    let rig = Rig::start().await;
    let mut stdio = rig.guest.stdio(true).await.expect("streams");
    rig.run("c", &["/bin/cat"], &stdio).await;
    rig.run("silent", &["forever"], &Stdio::default()).await;
    let _socket = stdin(&mut stdio);
    for _ in 0..2 {
        assert_eq!(rig.close_io("c", INIT, true).await, Ok(()));
        assert_eq!(rig.close_io("silent", INIT, true).await, Ok(()));
    }
    assert_eq!(rig.guest.wait("c", INIT).await.expect("wait").status, 0);
    assert_eq!(rig.close_io("c", INIT, true).await, Ok(()));
    rig.guest.delete("c", INIT).await.expect("delete");
    for (id, exec_id) in [("c", INIT), ("silent", "unknown"), ("unknown", INIT)] {
        assert_eq!(rig.close_io(id, exec_id, true).await, Err(Code::NOT_FOUND), "{id}/{exec_id}");
    }
    rig.daemon.stop().await;
}

#[tokio::test]
async fn close_io_that_does_not_mean_stdin_leaves_it_open() {
    let rig = Rig::start().await;
    let mut stdio = rig.guest.stdio(true).await.expect("streams");
    rig.run("c", &["/bin/cat"], &stdio).await;
    assert_eq!(rig.close_io("c", INIT, false).await, Ok(()));
    let mut socket = stdin(&mut stdio);
    // Had it been taken for the end, stdin would be closed after the grace of a CloseIO.
    sleep(ABSENCE).await;
    write(&mut socket, b"still open").await;
    drop(socket);
    assert_eq!(Reader::FAST.read(stdout(&mut stdio)).await, Sum::of(b"still open"));
    assert_eq!(rig.reap("c", INIT).await, 0);
    rig.daemon.stop().await;
}

/// nerdbox#246: the call overtakes the bytes, which travel on another connection.
#[tokio::test]
async fn close_io_does_not_discard_what_is_still_in_flight() {
    let rig = Rig::start().await;
    let bytes = noise(MUCH);
    let expected = Sum::of(&bytes);
    let mut stdio = rig.guest.stdio(true).await.expect("streams");
    let gate = rig.path("gate");
    rig.run("c", &["/bin/sh", "-c", &gated_cat(&gate)], &stdio).await;
    let reader = tokio::spawn(Reader::FAST.read(stdout(&mut stdio)));
    // The stream must not look idle because this test gets no turn: the writer has a thread of its own.
    let mut socket = stdin(&mut stdio).into_std().expect("a socket");
    socket.set_nonblocking(false).expect("a blocking socket");
    let writing = std::thread::spawn(move || {
        socket.write_all(&bytes).expect("write");
        socket
    });
    assert_eq!(rig.close_io("c", INIT, true).await, Ok(()));
    // That a full pipe is no silence, however long, is shown with paused time in `src/io/relay/tests.rs`.
    assert!(!writing.is_finished(), "most of it is still on its way");
    std::fs::write(&gate, "").expect("let it read");
    assert_eq!(reader.await.expect("join"), expected);
    drop(writing.join().expect("the writer"));
    assert_eq!(rig.reap("c", INIT).await, 0);
    rig.daemon.stop().await;
}

/// Nobody reads it, so it goes nowhere; but the host is not left in its write for ever.
#[tokio::test]
async fn what_is_written_to_a_process_that_has_ended_blocks_nobody() {
    let rig = Rig::start().await;
    let mut stdio = rig.guest.stdio(true).await.expect("streams");
    rig.run("c", &["exit", "3"], &stdio).await;
    assert_eq!(rig.guest.wait("c", INIT).await.expect("wait").status, 3);
    let mut socket = stdin(&mut stdio);
    write(&mut socket, &noise(MUCH)).await;
    rig.guest.delete("c", INIT).await.expect("delete");
    rig.daemon.stop().await;
}

/// kata#9532: an exec that never reads its stdin must not hang.
#[tokio::test]
async fn a_process_that_does_not_read_its_stdin_ends_and_is_deleted() {
    let rig = Rig::start().await;
    rig.run("c", &["forever"], &Stdio::default()).await;
    let mut stdio = rig.guest.stdio(true).await.expect("streams");
    rig.exec("c", "e", &["exit", "0"], &stdio).await;
    let mut socket = stdin(&mut stdio);
    let writing = tokio::spawn(async move {
        // It may be cut off by the Delete.
        let _ = socket.write_all(&noise(MUCH)).await;
    });
    rig.guest.start("c", "e").await.expect("start");
    assert_eq!(rig.reap("c", "e").await, 0);
    writing.await.expect("join");
    rig.daemon.stop().await;
}
