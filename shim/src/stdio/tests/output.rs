//! Output to FIFOs and files: complete, in order, whatever readers do.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use super::*;

/// A bound within which nothing is expected.
const SHORT: Duration = Duration::from_millis(50);

/// What a client that reads to the end got, and its checksum.
fn read_all(path: PathBuf) -> (usize, u32) {
    let mut crc = Hasher::new();
    let n = take(&mut File::open(path).unwrap(), usize::MAX, &mut crc).unwrap();
    (n, crc.finalize())
}

#[tokio::test]
async fn a_reader_gets_everything_and_the_end() {
    let host = Host::new();
    let (relays, guest) = host.relay("", &host.fifo("o"), "").await;
    let path = host.path("o");
    let reader = client(move || read_all(path));
    let sent = send(guest.stdout.unwrap(), MUCH);
    assert_eq!(soon(reader).await.unwrap(), (MUCH, soon(sent).await.unwrap()));
    assert!(relays.drained(SOON).await);
    soon(relays.release()).await;
}

#[tokio::test]
async fn a_slow_reader_gets_everything() {
    const SOME: usize = 4 << 20;
    let host = Host::new();
    let (relays, guest) = host.relay("", &host.fifo("o"), "").await;
    let path = host.path("o");
    let reader = client(move || {
        let (mut file, mut crc, mut total) = (File::open(path).unwrap(), Hasher::new(), 0);
        loop {
            // The slowness is what is tested; nothing is awaited.
            thread::sleep(Duration::from_millis(1));
            match take(&mut file, 10_007, &mut crc).unwrap() {
                0 => return (total, crc.finalize()),
                n => total += n,
            }
        }
    });
    let sent = send(guest.stdout.unwrap(), SOME);
    assert_eq!(soon(reader).await.unwrap(), (SOME, soon(sent).await.unwrap()));
    assert!(relays.drained(SOON).await);
}

#[tokio::test]
async fn output_waits_for_a_reader_that_comes_late() {
    let host = Host::new();
    let (relays, guest) = host.relay("", &host.fifo("o"), "").await;
    let sent = send(guest.stdout.unwrap(), MUCH);
    assert!(!relays.drained(SHORT).await, "more was written than a pipe holds");
    assert!(!sent.is_finished());
    let path = host.path("o");
    let reader = client(move || read_all(path));
    assert_eq!(soon(reader).await.unwrap(), (MUCH, soon(sent).await.unwrap()));
}

#[tokio::test]
async fn a_reader_that_leaves_and_another_that_comes_lose_nothing() {
    let host = Host::new();
    let (relays, guest) = host.relay("", &host.fifo("o"), "").await;
    let sent = send(guest.stdout.unwrap(), MUCH);
    let path = host.path("o");
    let mut crc = Hasher::new();
    let mut total = 0;
    for _ in 0..5 {
        let (path, mut so_far) = (path.clone(), crc.clone());
        let first = client(move || {
            let n = take(&mut File::open(path).unwrap(), 7_654_321, &mut so_far).unwrap();
            (n, so_far)
        });
        let (n, so_far) = soon(first).await.unwrap();
        assert_eq!(n, 7_654_321);
        (crc, total) = (so_far, total + n);
        assert!(!relays.drained(SHORT).await);
    }
    let last = client(move || {
        let n = take(&mut File::open(path).unwrap(), usize::MAX, &mut crc).unwrap();
        (total + n, crc.finalize())
    });
    assert_eq!(soon(last).await.unwrap(), (MUCH, soon(sent).await.unwrap()));
}

#[tokio::test]
async fn the_last_words_of_a_process_await_their_reader() {
    let host = Host::new();
    let (relays, guest) = host.relay("", &host.fifo("o"), "").await;
    let sent = send(guest.stdout.unwrap(), 10_000);
    assert!(relays.drained(SOON).await, "they are in the pipe");
    let path = host.path("o");
    let reader = client(move || read_all(path));
    assert_eq!(soon(reader).await.unwrap(), (10_000, soon(sent).await.unwrap()));
}

#[tokio::test]
async fn a_stream_that_breaks_is_at_its_end() {
    let host = Host::new();
    let (relays, guest) = host.relay("", &host.fifo("o"), "").await;
    let path = host.path("o");
    let reader = client(move || read_all(path).0);
    let mut stream = guest.stdout.unwrap();
    stream.write_all(b"half a li").await.unwrap();
    drop(stream);
    assert_eq!(soon(reader).await.unwrap(), 9);
    assert!(relays.drained(SOON).await);
}

#[tokio::test]
async fn stdout_and_stderr_are_apart_and_one_does_not_wait_for_the_other() {
    let host = Host::new();
    let (relays, guest) = host.relay("", &host.fifo("o"), &host.fifo("e")).await;
    // Nobody reads stdout, which blocks; stderr gets through.
    let stuck = send(guest.stdout.unwrap(), MUCH);
    let path = host.path("e");
    let reader = client(move || read_all(path));
    let sent = send(guest.stderr.unwrap(), MUCH);
    assert_eq!(soon(reader).await.unwrap(), (MUCH, soon(sent).await.unwrap()));
    assert!(!stuck.is_finished());
    soon(relays.release()).await;
    assert!(soon(stuck).await.is_err(), "what is released no longer takes anything");
}

#[tokio::test]
async fn one_fifo_for_both_carries_both_and_ends_once() {
    let host = Host::new();
    let fifo = host.fifo("o");
    let (relays, guest) = host.relay("", &fifo, &fifo).await;
    assert!(guest.stderr.is_none());
    let path = host.path("o");
    let reader = client(move || read_all(path));
    let sent = send(guest.stdout.unwrap(), MUCH);
    assert_eq!(soon(reader).await.unwrap(), (MUCH, soon(sent).await.unwrap()));
    assert!(relays.drained(SOON).await);
}

#[tokio::test]
async fn a_file_is_made_with_its_folders_and_appended_to() {
    let host = Host::new();
    for round in ["first\n", "second\n"] {
        let uri = host.uri("file://", "logs/c/out");
        let (relays, guest) = host.relay("", &uri, &uri).await;
        guest.stdout.unwrap().write_all(round.as_bytes()).await.unwrap();
        assert!(relays.drained(SOON).await);
        soon(relays.release()).await;
    }
    assert_eq!(fs::read_to_string(host.path("logs/c/out")).unwrap(), "first\nsecond\n");
    assert_eq!(fs::metadata(host.path("logs/c/out")).unwrap().permissions().mode() & 0o133, 0);
}

#[tokio::test]
async fn two_processes_that_append_to_one_file_overwrite_nothing() {
    const EACH: usize = 3 << 20;
    let host = Host::new();
    let uri = host.uri("file://", "log");
    let mut relays = Vec::new();
    for byte in [b'a', b'b'] {
        let (one, guest) = host.relay("", &uri, "").await;
        let mut stream = guest.stdout.unwrap();
        tokio::spawn(async move { stream.write_all(&vec![byte; EACH]).await });
        relays.push(one);
    }
    for one in relays {
        assert!(one.drained(SOON).await);
    }
    let written = fs::read(host.path("log")).unwrap();
    let count = |byte| written.iter().filter(|b| **b == byte).count();
    assert_eq!((count(b'a'), count(b'b'), written.len()), (EACH, EACH, 2 * EACH));
}

#[tokio::test]
async fn a_process_outlives_a_file_that_cannot_be_written() {
    let host = Host::new();
    let (relays, guest) = host.relay("", "file:///dev/full", "").await;
    let sent = send(guest.stdout.unwrap(), MUCH);
    soon(sent).await.unwrap();
    assert!(relays.drained(SOON).await);
}

#[tokio::test]
async fn a_fifo_that_is_missing_or_none_is_an_error_that_names_it() {
    let host = Host::new();
    fs::write(host.path("file"), "").unwrap();
    for (stdin, stdout) in [("", "/missing"), ("/missing", ""), ("", "/file"), ("/file", "")] {
        let path = |name: &str| match name {
            "" => String::new(),
            name => host.uri("", name.trim_start_matches('/')),
        };
        let spec = StdioSpec::parse(false, &path(stdin), &path(stdout), "").unwrap();
        let error = soon(Ends::open(&spec, OWNER)).await.unwrap_err();
        let named = matches!(&error, OpenError::Fifo { path, .. } if path.starts_with(host.dir.path()));
        assert!(named, "{error}");
    }
}

#[tokio::test]
async fn a_fifo_is_no_file() {
    let host = Host::new();
    let path = host.fifo("o");
    let _reader = pipe::OpenOptions::new().open_receiver(&path).unwrap();
    let spec = StdioSpec::parse(false, "", &format!("file://{path}"), "").unwrap();
    let error = soon(Ends::open(&spec, OWNER)).await.unwrap_err();
    assert!(error.to_string().ends_with("it is a FIFO"), "{error}");
}

#[tokio::test]
async fn a_process_without_outputs_is_drained_at_once() {
    let host = Host::new();
    let (relays, _guest) = host.relay("", "", "").await;
    assert!(relays.drained(Duration::ZERO).await);
    soon(relays.stdin_ended()).await;
    soon(relays.release()).await;
}

#[tokio::test]
async fn the_guest_sees_a_close_as_soon_as_its_stream_is_read_to_the_end() {
    let host = Host::new();
    let (_relays, guest) = host.relay("", &host.fifo("o"), "").await;
    let mut stream = guest.stdout.unwrap();
    stream.write_all(b"x").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(soon(stream.read(&mut [0])).await.unwrap(), 0);
}
