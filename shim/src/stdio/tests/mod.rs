//! The host's ends with socketpairs for the guest's streams, and threads that open FIFOs as clients do: blocking.

mod level;
mod logger;
mod output;
mod stdin;
mod uri;

use std::fs::File;
use std::future::Future;
use std::io::{self, Read};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crc32fast::Hasher;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;

/// How long anything may take that is expected to happen.
const SOON: Duration = Duration::from_secs(60);
/// What is sent where much is to be sent, and the length of its repeating pattern: a prime, so that no block of a power
/// of two looks like another.
const MUCH: usize = 64 << 20;
const PATTERN: usize = 65_521;

const OWNER: Owner<'_> = Owner { namespace: "ns", id: "c1" };

/// A folder for FIFOs, logs and loggers.
struct Host {
    dir: TempDir,
}

/// The guest's side of the streams.
#[derive(Default)]
struct Guest {
    stdin: Option<UnixStream>,
    stdout: Option<UnixStream>,
    stderr: Option<UnixStream>,
}

impl Host {
    fn new() -> Host {
        Host { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn uri(&self, scheme: &str, name: &str) -> String {
        format!("{scheme}{}", self.path(name).display())
    }

    fn fifo(&self, name: &str) -> String {
        mkfifo(&self.path(name), Mode::S_IRWXU).unwrap();
        self.uri("", name)
    }

    /// Opens and relays; the streams are those that `spec` would dial.
    async fn relay(&self, stdin: &str, stdout: &str, stderr: &str) -> (Relays, Guest) {
        let spec = StdioSpec::parse(false, stdin, stdout, stderr).unwrap();
        let ends = Ends::open(&spec, OWNER).await.unwrap();
        let together = matches!(spec.outputs, Outputs::Together(_));
        let (mut ours, mut guest) = (GuestEnds::default(), Guest::default());
        (ours.stdin, guest.stdin) = pair(!stdin.is_empty());
        (ours.stdout, guest.stdout) = pair(!stdout.is_empty());
        (ours.stderr, guest.stderr) = pair(!stderr.is_empty() && !together);
        let relays = ends.relay(ours);
        relays.hold_stdin();
        // The relays begin, and one holds its stdin, before any client comes.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        (relays, guest)
    }
}

fn pair(wanted: bool) -> (Option<UnixStream>, Option<UnixStream>) {
    wanted.then(|| UnixStream::pair().unwrap()).unzip()
}

/// Awaits with the limit of a test.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("it takes too long")
}

/// Writes `total` bytes of the pattern and closes; gives their checksum.
fn send(mut to: UnixStream, total: usize) -> JoinHandle<u32> {
    tokio::spawn(async move {
        let (block, mut crc, mut left) = (pattern(), Hasher::new(), total);
        while left > 0 {
            let n = left.min(block.len());
            to.write_all(&block[..n]).await.unwrap();
            crc.update(&block[..n]);
            left -= n;
        }
        crc.finalize()
    })
}

fn pattern() -> Vec<u8> {
    (0..PATTERN).map(|n| (n % 251) as u8).collect()
}

/// A client's thread. It is none of the runtime's, whose end would wait for it: a failed test may leave it blocked.
fn client<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> oneshot::Receiver<T> {
    let (done, result) = oneshot::channel();
    // Nobody receives it when the test has failed.
    thread::spawn(move || done.send(work()).ok());
    result
}

/// Reads at most `most` bytes; gives how many there were before the end.
fn take(from: &mut File, most: usize, crc: &mut Hasher) -> io::Result<usize> {
    let (mut block, mut taken) = (vec![0; 32 << 10], 0);
    while taken < most {
        let room = block.len().min(most - taken);
        match from.read(&mut block[..room])? {
            0 => break,
            n => {
                crc.update(&block[..n]);
                taken += n;
            }
        }
    }
    Ok(taken)
}
