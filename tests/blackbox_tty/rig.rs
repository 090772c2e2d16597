//! The host's end of a terminal, and the life of a process that has one.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use vminit_shim::api::containerd::api::ResizePtyRequest;
use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::{ClientError, Guest, Streams, INIT};
use vminitd_test_support::calls::{brief, create_with_uris, exec_with_uris, reap, rpc_code, Uris};
use vminitd_test_support::{poll_until, Daemon, Machine, LIMIT, PATIENCE};

/// The host's ends of one terminal.
#[derive(Default)]
pub struct Screen {
    pub stdin: Option<UnixStream>,
    pub stdout: Option<UnixStream>,
    uris: [String; 2],
}

impl Screen {
    pub async fn open(guest: &Guest) -> Self {
        let (stdin, stdin_uri) = stream(guest).await;
        let (stdout, stdout_uri) = stream(guest).await;
        Self { stdin: Some(stdin), stdout: Some(stdout), uris: [stdin_uri, stdout_uri] }
    }

    /// A terminal has one output.
    pub fn uris(&self) -> Uris<'_> {
        [&self.uris[0], &self.uris[1], ""]
    }

    pub async fn types(&mut self, text: &[u8]) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        timeout(PATIENCE, stdin.write_all(text)).await.expect("in time").expect("type");
    }

    /// Reads until this was shown; all that came.
    pub async fn shows(&mut self, text: &str) -> String {
        let stdout = self.stdout.as_mut().expect("stdout is open");
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains(text) {
            let mut block = [0; 4096];
            let n = timeout(LIMIT, stdout.read(&mut block)).await;
            match n.unwrap_or_else(|_| panic!("{text:?} does not come after {seen:?}")).expect("read") {
                0 => panic!("{text:?} does not come before the end: {:?}", String::from_utf8_lossy(&seen)),
                n => seen.extend_from_slice(&block[..n]),
            }
        }
        String::from_utf8(seen).expect("text")
    }

    /// Begins to read all that is shown, to its end.
    pub fn collect(&mut self) -> JoinHandle<Vec<u8>> {
        let mut stdout = self.stdout.take().expect("stdout is open");
        tokio::spawn(async move {
            let mut all = Vec::new();
            timeout(PATIENCE, stdout.read_to_end(&mut all)).await.expect("in time").expect("read");
            all
        })
    }
}

async fn stream(guest: &Guest) -> (UnixStream, String) {
    // Apart from the ids that the client counts by itself.
    static NEXT: AtomicU32 = AtomicU32::new(1_000_000);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    (guest.streams.open(id).await.expect("open a stream"), Streams::uri(id))
}

/// Makes a container whose init has a terminal.
pub async fn create(guest: &Guest, id: &str, config: &Value, screen: &Screen) -> Result<u32, ClientError> {
    create_with_uris(guest, id, config, screen.uris(), true).await
}

/// The same, which must succeed, on the real runc.
pub async fn created(machine: &Machine, id: &str, args: &[&str], screen: &Screen) {
    create(&machine.guest, id, &machine.config(id, args), screen).await.expect("create");
}

/// Adds a process with a terminal.
pub async fn exec(guest: &Guest, id: &str, exec_id: &str, args: &[&str], screen: &Screen) {
    exec_with_uris(guest, id, exec_id, args, screen.uris(), true).await.expect("exec");
}

pub async fn resize(guest: &Guest, id: &str, exec_id: &str, width: u32, height: u32) -> Result<(), Code> {
    let request =
        ResizePtyRequest { id: id.into(), exec_id: exec_id.into(), width, height, ..Default::default() };
    guest.client.task().resize_pty(brief(), &request).await.map(drop).map_err(rpc_code)
}

/// Runs what was created or added to its end; its status and all that it showed.
pub async fn finish(guest: &Guest, id: &str, exec_id: &str, mut screen: Screen) -> (u32, String) {
    let shown = screen.collect();
    guest.start(id, exec_id).await.expect("start");
    let status = reap(guest, id, exec_id).await;
    (status, String::from_utf8(shown.await.expect("join")).expect("text"))
}

/// The whole life of a container whose init has a terminal.
pub async fn run(machine: &Machine, id: &str, args: &[&str]) -> (u32, String) {
    let screen = Screen::open(&machine.guest).await;
    created(machine, id, args, &screen).await;
    finish(&machine.guest, id, INIT, screen).await
}

/// The whole life of an exec with a terminal.
pub async fn run_exec(guest: &Guest, id: &str, exec_id: &str, args: &[&str]) -> (u32, String) {
    let screen = Screen::open(guest).await;
    exec(guest, id, exec_id, args, &screen).await;
    finish(guest, id, exec_id, screen).await
}

/// Waits until the daemon has no more open than this.
pub async fn closed(daemon: &Daemon, descriptors_before: usize) {
    let look = || match daemon.open_descriptors() {
        open if open <= descriptors_before => Ok(()),
        open => Err(format!("{descriptors_before} descriptors became {open}")),
    };
    poll_until(LIMIT, "terminals and streams are closed", look).await;
}

/// Ends a container and the daemon.
pub async fn end(machine: Machine, id: &str) {
    machine.end(id).await;
    machine.daemon.stop().await;
}
