//! What the tests of stdio share: a daemon, processes with streams, and readers of several kinds.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crc32fast::Hasher;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{sleep_until, timeout, Instant};
use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::{Container, Exec, Guest, Stdio, INIT};
use vminit_shim::spec;
use vminitd_test_support::calls::{self, Uris};
use vminitd_test_support::chance::noise;
use vminitd_test_support::{code_of, Daemon, PATIENCE};

/// A daemon on the scripted runc, and one connection to it.
pub struct Rig {
    pub daemon: Daemon,
    pub guest: Guest,
}

impl Rig {
    pub async fn start() -> Rig {
        Rig::of(Daemon::with_fake_runc().await).await
    }

    pub async fn of(daemon: Daemon) -> Rig {
        let guest = daemon.guest().await;
        Rig { daemon, guest }
    }

    /// Creates a container and does not start it.
    pub async fn create(&self, id: &str, args: &[&str], stdio: &Stdio) {
        let config = spec::container(args);
        self.guest.create(Container { id, config: &config, rootfs: &[] }, stdio).await.expect("create");
    }

    /// Creates a container and starts it.
    pub async fn run(&self, id: &str, args: &[&str], stdio: &Stdio) {
        self.create(id, args, stdio).await;
        self.guest.start(id, INIT).await.expect("start");
    }

    /// Adds a process and does not start it.
    pub async fn exec(&self, id: &str, exec_id: &str, args: &[&str], stdio: &Stdio) {
        let process = spec::process(args);
        let exec = Exec { container_id: id, exec_id, process: &process };
        self.guest.exec(exec, stdio).await.expect("exec");
    }

    /// Waits for the end of a process and deletes it at once; its status.
    pub async fn reap(&self, id: &str, exec_id: &str) -> u32 {
        calls::reap(&self.guest, id, exec_id).await
    }

    /// Creates a container with URIs of the test's choice in a bundle of its own.
    pub async fn create_with(&self, id: &str, args: &[&str], uris: Uris<'_>) -> Result<u32, Code> {
        let config = spec::container(args);
        calls::create_with_uris(&self.guest, id, &config, uris, false).await.map_err(code_of)
    }

    /// Task.CloseIO.
    pub async fn close_io(&self, id: &str, exec_id: &str, stdin: bool) -> Result<(), Code> {
        calls::close_io(&self.guest, id, exec_id, stdin).await
    }

    /// A path of the test's own.
    pub fn path(&self, name: &str) -> PathBuf {
        self.daemon.dir().join(name)
    }
}

/// A file with so much noise, and its checksum.
pub fn noise_file(path: &Path, bytes: usize) -> Sum {
    let noise = noise(bytes);
    std::fs::write(path, &noise).expect("write a file");
    Sum::of(&noise)
}

/// What something amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sum {
    pub bytes: usize,
    crc: u32,
}

impl Sum {
    pub fn of(bytes: &[u8]) -> Sum {
        Sum { bytes: bytes.len(), crc: crc32fast::hash(bytes) }
    }
}

/// How a host reads.
#[derive(Debug, Clone, Copy)]
pub struct Reader {
    /// Bytes at once.
    pub block: usize,
    /// From the beginning of one read to that of the next.
    pub every: Duration,
}

impl Reader {
    pub const FAST: Reader = Reader { block: 64 * 1024, every: Duration::ZERO };

    /// Reads to the end, which must come.
    pub async fn read(self, mut socket: UnixStream) -> Sum {
        let (mut hasher, mut bytes, mut block) = (Hasher::new(), 0, vec![0; self.block]);
        let mut next = Instant::now();
        loop {
            let read = timeout(PATIENCE, socket.read(&mut block)).await;
            match read.unwrap_or_else(|_| panic!("nothing comes after {bytes} bytes")).expect("read") {
                0 => return Sum { bytes, crc: hasher.finalize() },
                n => {
                    hasher.update(&block[..n]);
                    bytes += n;
                }
            }
            next += self.every;
            sleep_until(next).await;
        }
    }
}

/// Takes the host's end of stdout.
pub fn stdout(stdio: &mut Stdio) -> UnixStream {
    stdio.stdout.take().expect("it was asked for").socket
}

/// Takes the host's end of stdin.
pub fn stdin(stdio: &mut Stdio) -> UnixStream {
    stdio.stdin.take().expect("it was asked for").socket
}

/// Writes all of it; the stream must take it.
pub async fn write(socket: &mut UnixStream, bytes: &[u8]) {
    timeout(PATIENCE, socket.write_all(bytes)).await.expect("it is taken").expect("write");
}
