//! Relays over socket pairs and real pipes, with paused time: it passes only while nothing else can happen.

use std::os::fd::OwnedFd;

use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, Instant};

use super::*;
use crate::io::deletion::{deletion, Kept};
use crate::sys::process::pipe;

const IDLE: Duration = Duration::from_millis(100);

/// More than a socket and a pipe hold.
const MANY: usize = 2 << 20;

/// What the sender's side of a test is made of: the host's end, the request to end, and what the process reads.
fn stdin() -> (UnixStream, StdinCloser, Receiver, JoinHandle<()>) {
    let (host, guest) = UnixStream::pair().expect("a socket pair");
    let (read, write) = pipe().expect("a pipe");
    let closer = StdinCloser::default();
    let to = Sender::from_owned_fd(write).expect("a pipe's end");
    let task = tokio::spawn(input(Socket::Unix(guest), to, closer.clone(), IDLE));
    (host, closer, Receiver::from_owned_fd(read).expect("a pipe's end"), task)
}

async fn read_all(mut from: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).await.expect("an end, not an error");
    bytes
}

#[tokio::test(start_paused = true)]
async fn stdin_ends_with_its_stream() {
    let (mut host, _closer, process, _task) = stdin();
    host.write_all(b"all of it").await.expect("write");
    drop(host);
    let started = Instant::now();
    assert_eq!(read_all(process).await, b"all of it");
    assert_eq!(started.elapsed(), Duration::ZERO);
}

/// spinbox's host polls its input every 50 ms; nerdbox#246, containerd#2439.
#[tokio::test(start_paused = true)]
async fn what_comes_within_the_grace_after_a_close_is_delivered() {
    let (mut host, closer, process, _task) = stdin();
    closer.close();
    closer.close();
    let reading = tokio::spawn(read_all(process));
    for _ in 0..3 {
        sleep(IDLE * 9 / 10).await;
        host.write_all(b"late ").await.expect("write");
    }
    assert_eq!(reading.await.expect("join"), b"late late late ");
    assert_eq!(host.read(&mut [0]).await.expect("an end"), 0, "the stream is closed");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_reads_slowly_gets_all_that_was_written_before_a_close() {
    let (mut host, closer, mut process, _task) = stdin();
    let writing = tokio::spawn(async move {
        host.write_all(&vec![7; MANY]).await.expect("write");
        host
    });
    closer.close();
    // Time passes while the pipe is full; that is no silence.
    sleep(IDLE * 100).await;
    let mut first = vec![0; 1];
    process.read_exact(&mut first).await.expect("read");
    sleep(IDLE * 100).await;
    assert_eq!(read_all(process).await.len(), MANY - 1);
    writing.await.expect("join");
}

/// A host must be able to get rid of what nobody reads, or it blocks in its write for ever.
#[tokio::test(start_paused = true)]
async fn input_for_a_process_that_does_not_read_is_taken() {
    let (mut host, _closer, process, task) = stdin();
    drop(process);
    host.write_all(&vec![7; MANY]).await.expect("write");
    drop(host);
    task.await.expect("join");
}

/// An output: the process's end, the host's end, and what its relay is told and tells.
struct Out {
    process: OwnedFd,
    host: UnixStream,
    done: watch::Receiver<bool>,
    kept: Kept,
    _stopping: watch::Sender<bool>,
    task: JoinHandle<()>,
}

fn stdout(close: StreamClose) -> Out {
    let (host, guest) = UnixStream::pair().expect("a socket pair");
    let (read, process) = pipe().expect("a pipe");
    let (done_tx, done) = watch::channel(false);
    let (kept, deletion) = deletion();
    let (stopping_tx, stopping) = watch::channel(false);
    let from = Receiver::from_owned_fd(read).expect("a pipe's end");
    let lingering = Arc::new(Semaphore::new(1));
    let signals = Signals { done: done_tx, deletion, stopping, lingering };
    let task = tokio::spawn(output(from, Socket::Unix(guest), close, signals));
    Out { process, host, done, kept, _stopping: stopping_tx, task }
}

async fn write_all(process: OwnedFd, bytes: usize) {
    let mut to = Sender::from_owned_fd(process).expect("a pipe's end");
    to.write_all(&vec![7; bytes]).await.expect("never SIGPIPE or EPIPE");
}

/// nerdbox#236: a close right behind the last byte cuts it off.
#[tokio::test(start_paused = true)]
async fn output_is_half_closed_and_the_connection_kept_for_its_peer() {
    let mut out = stdout(StreamClose::Delete);
    let writing = tokio::spawn(write_all(out.process, MANY));
    let mut bytes = Vec::new();
    out.host.read_to_end(&mut bytes).await.expect("an end");
    assert_eq!(bytes.len(), MANY);
    writing.await.expect("join");
    out.done.wait_for(|done| *done).await.expect("it is told");
    out.host.write_all(b"ignored").await.expect("the other direction is open");
    drop(out.host);
    out.task.await.expect("join");
    drop(out.kept);
}

#[tokio::test(start_paused = true)]
async fn output_without_a_reader_is_read_to_its_end() {
    let mut out = stdout(StreamClose::Delete);
    drop(out.host);
    write_all(out.process, MANY).await;
    out.done.wait_for(|done| *done).await.expect("it is told");
    out.task.await.expect("join");
}

/// containerd#7802: the process was deleted, and a child of it still writes.
#[tokio::test(start_paused = true)]
async fn output_of_a_deleted_process_is_read_on_without_its_stream() {
    let mut out = stdout(StreamClose::Delete);
    drop(out.kept);
    assert_eq!(out.host.read(&mut [0]).await.expect("an end"), 0);
    write_all(out.process, MANY).await;
    out.task.await.expect("join");
}

/// A reader that stalls for longer than a Delete waits.
#[tokio::test(start_paused = true)]
async fn what_a_process_has_written_reaches_a_reader_that_comes_after_its_delete() {
    // A pipe as it is by default, and as much as a socket holds at least.
    const WRITTEN: usize = 160 * 1024;
    let mut out = stdout(StreamClose::Delete);
    write_all(out.process, WRITTEN).await;
    drop(out.kept);
    sleep(Duration::from_secs(20)).await;
    assert_eq!(read_all(&mut out.host).await.len(), WRITTEN);
    drop(out.host);
    out.task.await.expect("join");
}

#[tokio::test(start_paused = true)]
async fn a_child_that_writes_on_does_not_keep_the_stream_of_a_deleted_process() {
    let mut out = stdout(StreamClose::Delete);
    let writing = tokio::spawn(write_all(out.process, 2 * MANY));
    out.host.read_exact(&mut [0; 1024]).await.expect("it writes");
    drop(out.kept);
    let taken = read_all(&mut out.host).await.len();
    assert!(taken <= MANY, "{taken} bytes were relayed after the delete");
    writing.await.expect("join");
}

#[tokio::test(start_paused = true)]
async fn output_that_was_let_go_still_reaches_its_reader() {
    let mut out = stdout(StreamClose::Delete);
    out.kept.release();
    let writing = tokio::spawn(write_all(out.process, MANY));
    let mut bytes = Vec::new();
    out.host.read_to_end(&mut bytes).await.expect("an end");
    assert_eq!(bytes.len(), MANY);
    writing.await.expect("join");
}
