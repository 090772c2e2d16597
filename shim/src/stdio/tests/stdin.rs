//! Stdin: complete, until CloseIO and not before.

use std::fs::OpenOptions;
use std::io::Write;

use tokio::io::AsyncReadExt;

use super::*;

fn open(path: PathBuf) -> File {
    OpenOptions::new().write(true).open(path).unwrap()
}

/// The guest's side, and the checksum of what it has read.
struct Process {
    stream: UnixStream,
    crc: Hasher,
    read: usize,
}

impl Process {
    fn new(guest: Guest) -> Process {
        Process { stream: guest.stdin.unwrap(), crc: Hasher::new(), read: 0 }
    }

    /// Reads once, at most `most` bytes; whether there were any before the end.
    async fn read(&mut self, most: usize) -> bool {
        let mut block = vec![0; most];
        let n = soon(self.stream.read(&mut block)).await.unwrap();
        self.crc.update(&block[..n]);
        self.read += n;
        n > 0
    }

    /// Reads to the end; gives the number of all bytes and their checksum.
    async fn finish(mut self) -> (usize, u32) {
        while self.read(8 << 10).await {}
        (self.read, self.crc.finalize())
    }
}

/// A client that writes `total` bytes and closes; gives their checksum.
fn feed(path: PathBuf, total: usize) -> oneshot::Receiver<u32> {
    client(move || {
        let (mut file, block, mut crc, mut left) = (open(path), pattern(), Hasher::new(), total);
        while left > 0 {
            let n = left.min(block.len());
            file.write_all(&block[..n]).unwrap();
            crc.update(&block[..n]);
            left -= n;
        }
        crc.finalize()
    })
}

#[tokio::test]
async fn a_close_while_a_client_writes_delivers_all_of_it() {
    let host = Host::new();
    let (relays, guest) = host.relay(&host.fifo("i"), "", "").await;
    let fed = feed(host.path("i"), MUCH);
    let mut process = Process::new(guest);
    assert!(process.read(1).await, "the client is there");
    relays.close_stdin();
    relays.close_stdin();
    assert_eq!(process.finish().await, (MUCH, soon(fed).await.unwrap()));
    soon(relays.stdin_ended()).await;
}

#[tokio::test]
async fn a_close_after_the_client_has_gone_delivers_all_of_it() {
    let host = Host::new();
    let (relays, guest) = host.relay(&host.fifo("i"), "", "").await;
    let fed = soon(feed(host.path("i"), 50_000)).await.unwrap();
    relays.close_stdin();
    assert_eq!(Process::new(guest).finish().await, (50_000, fed));
    soon(relays.stdin_ended()).await;
}

#[tokio::test]
async fn a_close_before_any_client_ends_stdin() {
    let host = Host::new();
    let (relays, guest) = host.relay(&host.fifo("i"), "", "").await;
    relays.close_stdin();
    assert_eq!(Process::new(guest).finish().await.0, 0);
    soon(relays.stdin_ended()).await;
}

#[tokio::test]
async fn stdin_goes_on_with_the_next_client_until_it_is_closed() {
    let host = Host::new();
    let (relays, guest) = host.relay(&host.fifo("i"), "", "").await;
    let mut stream = guest.stdin.unwrap();
    for _ in 0..3 {
        let path = host.path("i");
        soon(client(move || open(path).write_all(b"hello").unwrap())).await.unwrap();
        let mut seen = [0; 5];
        soon(stream.read_exact(&mut seen)).await.unwrap();
        assert_eq!(&seen, b"hello");
    }
    let silence = Duration::from_millis(50);
    let early = tokio::time::timeout(silence, relays.stdin_ended()).await;
    assert!(early.is_err(), "it ends with CloseIO, not with a client");
    relays.close_stdin();
    assert_eq!(soon(stream.read(&mut [0])).await.unwrap(), 0);
}

#[tokio::test]
async fn a_process_that_no_longer_reads_ends_its_stdin() {
    let host = Host::new();
    let (relays, guest) = host.relay(&host.fifo("i"), "", "").await;
    drop(guest);
    let path = host.path("i");
    let writer = client(move || {
        let mut file = open(path);
        loop {
            if let Err(error) = file.write_all(&[0; 4096]) {
                return error.kind();
            }
        }
    });
    soon(relays.stdin_ended()).await;
    assert_eq!(soon(writer).await.unwrap(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_process_that_reads_slowly_holds_up_its_client_and_loses_nothing() {
    let host = Host::new();
    let (relays, guest) = host.relay(&host.fifo("i"), "", "").await;
    let fed = feed(host.path("i"), MUCH);
    let mut process = Process::new(guest);
    assert!(process.read(1).await, "the client is there");
    relays.close_stdin();
    // Nothing more is read for a while, and the buffers hold far less.
    let early = tokio::time::timeout(Duration::from_millis(50), relays.stdin_ended()).await;
    assert!(early.is_err());
    assert_eq!(process.finish().await, (MUCH, soon(fed).await.unwrap()));
}

#[tokio::test]
async fn a_client_that_has_gone_before_stdin_is_held_has_ended_it() {
    let host = Host::new();
    let spec = StdioSpec::parse(false, &host.fifo("i"), "", "").unwrap();
    let ends = Ends::open(&spec, OWNER).await.unwrap();
    let fed = soon(feed(host.path("i"), 50_000)).await.unwrap();
    let (ours, guest) = UnixStream::pair().unwrap();
    let relays = ends.relay(GuestEnds { stdin: Some(ours), ..GuestEnds::default() });
    relays.hold_stdin();
    let process = Process { stream: guest, crc: Hasher::new(), read: 0 };
    assert_eq!(process.finish().await, (50_000, fed));
    soon(relays.stdin_ended()).await;
}
