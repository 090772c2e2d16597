//! The host's end of a terminal, the requests that name it, and a daemon on the real runc.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use vminit_shim::api::containerd::api::{CreateTaskRequest, ExecProcessRequest, ResizePtyRequest};
use vminit_shim::api::ttrpc::{self, Code};
use vminit_shim::client::{context, Container, Guest, Stdio, Streams, INIT};
use vminit_shim::spec;
use vminitd_test_support::calls::{brief, rpc_code};
use vminitd_test_support::{binaries, poll_until, rootfs, Daemon, LIMIT};

/// Long enough for a million lines on a busy machine; used up only by failures.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The host's ends of one terminal.
#[derive(Default)]
pub struct Screen {
    pub stdin: Option<UnixStream>,
    pub stdout: Option<UnixStream>,
    pub uris: [String; 2],
}

impl Screen {
    pub async fn open(guest: &Guest) -> Self {
        let (stdin, stdin_uri) = stream(guest).await;
        let (stdout, stdout_uri) = stream(guest).await;
        Self { stdin: Some(stdin), stdout: Some(stdout), uris: [stdin_uri, stdout_uri] }
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

pub async fn create(guest: &Guest, id: &str, config: &Value, screen: &Screen) -> Result<u32, ttrpc::Error> {
    let [stdin, stdout] = screen.uris.clone();
    let bundle = guest.bundle(id, config).await.expect("bundle");
    let request =
        CreateTaskRequest { id: id.into(), bundle, stdin, stdout, terminal: true, ..Default::default() };
    guest.client.task().create(patient(), &request).await.map(|reply| reply.pid)
}

pub async fn exec(guest: &Guest, id: &str, exec_id: &str, args: &[&str], screen: &Screen) {
    let [stdin, stdout] = screen.uris.clone();
    let mut request = ExecProcessRequest {
        id: id.into(),
        exec_id: exec_id.into(),
        stdin,
        stdout,
        terminal: true,
        ..Default::default()
    };
    request.spec.mut_or_insert_default().value = spec::process(args).to_string().into_bytes();
    guest.client.task().exec(brief(), &request).await.expect("exec");
}

pub async fn resize(guest: &Guest, id: &str, exec_id: &str, width: u32, height: u32) -> Result<(), Code> {
    let request =
        ResizePtyRequest { id: id.into(), exec_id: exec_id.into(), width, height, ..Default::default() };
    guest.client.task().resize_pty(brief(), &request).await.map(drop).map_err(rpc_code)
}

pub fn patient() -> ttrpc::context::Context {
    context(PATIENCE, "default")
}

/// A daemon on the real runc.
pub struct Machine {
    pub daemon: Daemon,
    pub guest: Guest,
    root: PathBuf,
}

impl Machine {
    pub async fn start() -> Option<Self> {
        let daemon = Daemon::with_runtime(&binaries::real_runc()?).await;
        let root = rootfs::busybox(daemon.dir());
        Some(Self { guest: daemon.guest().await, daemon, root })
    }

    fn config(&self, id: &str, args: &[&str]) -> Value {
        rootfs::config(&self.root, id, args)
    }

    /// A container whose init has a terminal.
    pub async fn created(&self, id: &str, args: &[&str], screen: &Screen) -> u32 {
        create(&self.guest, id, &self.config(id, args), screen).await.expect("create")
    }

    /// A container with nothing but a process that waits, and no terminal.
    pub async fn running(&self, id: &str) -> u32 {
        let config = self.config(id, &["/bin/sleep", "1000"]);
        let container = Container { id, config: &config, rootfs: &[] };
        let pid = self.guest.create(container, &Stdio::default()).await.expect("create");
        self.guest.start(id, INIT).await.expect("start");
        pid
    }

    /// Runs what was created or added to its end; its status and all that it showed.
    pub async fn finish(&self, id: &str, exec_id: &str, mut screen: Screen) -> (u32, String) {
        let shown = screen.collect();
        self.guest.start(id, exec_id).await.expect("start");
        let status = self.guest.wait(id, exec_id).await.expect("wait").status;
        self.guest.delete(id, exec_id).await.expect("delete");
        (status, String::from_utf8(shown.await.expect("join")).expect("text"))
    }

    pub async fn run(&self, id: &str, args: &[&str]) -> (u32, String) {
        let screen = Screen::open(&self.guest).await;
        self.created(id, args, &screen).await;
        self.finish(id, INIT, screen).await
    }

    pub async fn exec(&self, id: &str, exec_id: &str, args: &[&str]) -> (u32, String) {
        let screen = Screen::open(&self.guest).await;
        exec(&self.guest, id, exec_id, args, &screen).await;
        self.finish(id, exec_id, screen).await
    }

    /// Waits until the daemon has no more open than this.
    pub async fn closed(&self, descriptors_before: usize) {
        let look = || match self.daemon.open_descriptors() {
            open if open <= descriptors_before => Ok(()),
            open => Err(format!("{descriptors_before} descriptors became {open}")),
        };
        poll_until(LIMIT, "terminals and streams are closed", look).await;
    }

    pub async fn end(self, id: &str) {
        self.guest.kill(id, INIT, 9).await.expect("kill");
        self.guest.wait(id, INIT).await.expect("wait");
        self.guest.delete(id, INIT).await.expect("delete");
        self.daemon.stop().await;
    }
}
