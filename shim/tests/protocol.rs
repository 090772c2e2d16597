//! The shim's program as containerd calls it, in a bundle of its own, with a socket folder of its own.

use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{fcntl, FcntlArg, FdFlag};
use nix::libc::O_NONBLOCK;
use nix::sys::signal::{kill, Signal};
use nix::sys::stat::Mode;
use nix::unistd::{mkfifo, Pid};
use protobuf::well_known_types::any::Any;
use protobuf::Message;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::{sleep, timeout};
use ttrpc::asynchronous::Client;
use ttrpc::{Code, Request};
use vminit_shim::api::containerd::api::{ConnectRequest, DeleteResponse, ShutdownRequest, StateRequest};
use vminit_shim::api::containerd::bootstrap_api::{BootstrapParams, BootstrapResult};
use vminit_shim::api::containerd::shim_async::TaskClient;
use vminit_shim::api::containerd::types::introspection::RuntimeInfo;
use vminit_shim::api::service::{TASK_V2, TASK_V3};

const SHIM: &str = env!("CARGO_BIN_EXE_containerd-shim-vminit-v1");
const SOON: Duration = Duration::from_secs(20);
/// The pause between two looks at something that is to come.
const LOOK: Duration = Duration::from_millis(5);

/// A bundle, and what stands for containerd's folder of sockets. Kills the shim that its `shim.pid` names.
struct Bundle {
    dir: TempDir,
}

impl Bundle {
    fn new() -> Bundle {
        let dir = tempfile::tempdir().expect("make a folder");
        mkfifo(&dir.path().join("log"), Mode::S_IRWXU).expect("make the log pipe");
        Bundle { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs the shim with containerd's flags and `more`, and reads its output to the end, as containerd does.
    async fn call(&self, more: &[&str], stdin: &[u8]) -> Output {
        self.run(Command::new(SHIM), more, stdin).await
    }

    /// The same where `/run` is empty and nobody else's.
    async fn call_in_empty_run(&self, more: &[&str], stdin: &[u8]) -> Output {
        let mut command = Command::new("unshare");
        command.args([
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            "mount -t tmpfs none /run && exec \"$@\"",
            "sh",
        ]);
        command.arg(SHIM);
        self.run(command, more, stdin).await
    }

    async fn run(&self, mut command: Command, more: &[&str], stdin: &[u8]) -> Output {
        let mut shim = command
            .args(["-namespace", "ns", "-address"])
            .arg(self.path("containerd.sock"))
            .args(["-publish-binary", "/usr/bin/containerd", "-id", "c1"])
            .args(more)
            .env("TTRPC_ADDRESS", self.path("containerd.sock.ttrpc"))
            .current_dir(self.dir.path())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the shim");
        let mut input = shim.stdin.take().expect("its input is a pipe");
        // A shim that has failed already does not read.
        let _ = input.write_all(stdin).await;
        drop(input);
        timeout(SOON, shim.wait_with_output())
            .await
            .expect("its output ends in time")
            .expect("read its output")
    }

    /// Starts the shim in the way of containerd 2.4; gives the path of its socket.
    async fn start(&self) -> PathBuf {
        let output = self.call(&["start"], &self.params()).await;
        assert!(output.status.success(), "{output:?}");
        assert_eq!(output.stderr, b"");
        let result = BootstrapResult::parse_from_bytes(&output.stdout).expect("read the reply");
        assert_eq!((result.version, result.protocol.as_str()), (3, "ttrpc"));
        assert_eq!(self.text("address"), result.address);
        result.address.strip_prefix("unix://").expect("the address is a Unix socket's").into()
    }

    fn params(&self) -> Vec<u8> {
        let params = BootstrapParams {
            instance_id: "c1".into(),
            namespace: "ns".into(),
            socket_dir: Some(self.path("s").display().to_string()),
            ..Default::default()
        };
        params.write_to_bytes().expect("the message has no required fields")
    }

    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).expect("read a file of the bundle")
    }

    fn pid(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.path("shim.pid")).ok()?;
        text.parse().ok().map(Pid::from_raw)
    }

    fn kill(&self) {
        kill(self.pid().expect("the shim runs"), Signal::SIGKILL).expect("kill the shim");
    }

    /// Waits until the shim has ended. Somebody else is to reap it.
    async fn gone(&self) {
        let stat = format!("/proc/{}/stat", self.pid().expect("the shim has run"));
        let deadline = Instant::now() + SOON;
        while !fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z ")) {
            assert!(Instant::now() < deadline, "the shim has not ended in time");
            sleep(LOOK).await;
        }
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let Some(pid) = self.pid() else { return };
        let name = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        // Not another's process that got the number since.
        if String::from_utf8_lossy(&name).contains("containerd-shim-vminit-v1") {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

async fn connect(socket: &Path) -> TaskClient {
    TaskClient::new(connect_raw(socket).await)
}

async fn connect_raw(socket: &Path) -> Client {
    Client::connect(&format!("unix://{}", socket.display())).await.expect("connect to the shim")
}

fn context() -> ttrpc::context::Context {
    ttrpc::context::with_duration(SOON)
}

#[tokio::test]
async fn start_answers_and_ends_while_the_shim_lives_on() {
    let bundle = Bundle::new();
    let left_open = fs::File::create(bundle.path("left-open")).unwrap();
    fcntl(&left_open, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let socket = bundle.start().await;
    let connected = connect(&socket).await.connect(context(), &ConnectRequest::new()).await;
    let pid = bundle.pid().unwrap();
    assert_eq!(connected.unwrap().shim_pid, pid.as_raw() as u32);
    // Of its own session, with no end of the pipes that containerd reads.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    assert_eq!(stat.rsplit(") ").next().unwrap().split(' ').nth(3).unwrap(), pid.to_string());
    let fd = |number: u32| fs::read_link(format!("/proc/{pid}/fd/{number}")).unwrap();
    assert_eq!(fd(0), Path::new("/dev/null"));
    assert_eq!((fd(1), fd(2)), (bundle.path("log"), bundle.path("log")));
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().map(|entry| entry.unwrap().path());
    let links = fds.map(|fd| fs::read_link(fd).unwrap().display().to_string());
    let strangers = links.filter(|link| link.starts_with("pipe:") || link.ends_with("left-open"));
    assert_eq!(strangers.collect::<Vec<_>>(), Vec::<String>::new());
    let own = fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim().parse::<i32>().unwrap();
    let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    assert_eq!(score.trim(), (own + 1).min(1000).to_string());
}

#[tokio::test]
async fn containerd_before_2_3_is_answered_the_address_alone() {
    let options = Any { type_url: "containerd.runc.v1.Options".into(), ..Default::default() };
    for stdin in [Vec::new(), options.write_to_bytes().unwrap()] {
        let bundle = Bundle::new();
        let output = bundle.call_in_empty_run(&["start"], &stdin).await;
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
        let address = String::from_utf8(output.stdout).unwrap();
        assert_eq!(bundle.text("address"), address);
        let socket = address.strip_prefix("unix:///run/containerd/s/").unwrap();
        let run = format!("/proc/{}/root/run/containerd/s", bundle.pid().unwrap());
        let socket = Path::new(&run).join(socket);
        // The shim is on its way into a mount namespace of its own, and there is a moment without the mounts of the old.
        let deadline = Instant::now() + SOON;
        while !socket.exists() && Instant::now() < deadline {
            sleep(LOOK).await;
        }
        let client = connect(&socket).await;
        client.connect(context(), &ConnectRequest::new()).await.unwrap();
    }
}

#[tokio::test]
async fn the_log_goes_to_the_pipe_of_the_bundle_and_blocks_nothing() {
    let bundle = Bundle::new();
    let socket = bundle.start().await;
    // containerd is away: nobody has the pipe open but the shim.
    connect(&socket).await.shutdown(context(), &ShutdownRequest::new()).await.unwrap();
    bundle.gone().await;

    let mut both = OpenOptions::new();
    both.read(true).write(true).custom_flags(O_NONBLOCK);
    let mut log = both.open(bundle.path("log")).unwrap();
    let socket = bundle.start().await;
    connect(&socket).await.shutdown(context(), &ShutdownRequest::new()).await.unwrap();
    bundle.gone().await;
    let mut line = [0; 4096];
    let read = log.read(&mut line).unwrap();
    let line = String::from_utf8_lossy(&line[..read]);
    assert!(line.contains("INFO the shim ends id=\"c1\""), "{line}");
}

#[tokio::test]
async fn both_versions_of_task_are_served() {
    let bundle = Bundle::new();
    let client = connect_raw(&bundle.start().await).await;
    let payload = StateRequest { id: "c1".into(), ..Default::default() }.write_to_bytes().unwrap();
    for service in [TASK_V2, TASK_V3] {
        let (service, method) = (service.to_string(), "State".to_string());
        let request = Request { service, method, payload: payload.clone(), ..Default::default() };
        let Err(ttrpc::Error::RpcStatus(status)) = timeout(SOON, client.request(request)).await.unwrap()
        else {
            panic!("there is no task")
        };
        assert_eq!(status.code(), Code::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_second_start_answers_the_shim_that_runs() {
    let bundle = Bundle::new();
    let socket = bundle.start().await;
    let pid = bundle.pid();
    assert_eq!((bundle.start().await, bundle.pid()), (socket, pid));
}

#[tokio::test]
async fn a_killed_shim_is_replaced() {
    let bundle = Bundle::new();
    let socket = bundle.start().await;
    bundle.kill();
    bundle.gone().await;
    assert!(socket.exists());
    assert_eq!(bundle.start().await, socket);
    connect(&socket).await.connect(context(), &ConnectRequest::new()).await.unwrap();
}

#[tokio::test]
async fn shutdown_leaves_no_process_and_no_socket() {
    let bundle = Bundle::new();
    let socket = bundle.start().await;
    let client = connect(&socket).await;
    client.shutdown(context(), &ShutdownRequest::new()).await.unwrap();
    timeout(Duration::from_secs(3), bundle.gone()).await.unwrap();
    assert!(!socket.exists());
}

#[tokio::test]
async fn sigterm_ends_the_shim_in_order() {
    let bundle = Bundle::new();
    let socket = bundle.start().await;
    connect(&socket).await.connect(context(), &ConnectRequest::new()).await.unwrap();
    kill(bundle.pid().unwrap(), Signal::SIGTERM).unwrap();
    bundle.gone().await;
    assert!(!socket.exists());
}

#[tokio::test]
async fn delete_after_a_crash_answers_and_removes_the_socket() {
    let bundle = Bundle::new();
    let socket = bundle.start().await;
    bundle.kill();
    bundle.gone().await;
    let output = bundle.call(&["-bundle", &bundle.path("").display().to_string(), "delete"], b"").await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(DeleteResponse::parse_from_bytes(&output.stdout).unwrap().exit_status, 137);
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_start_that_fails_says_why_and_leaves_nothing() {
    let bundle = Bundle::new();
    fs::write(bundle.path("s"), "in the way").unwrap();
    let output = bundle.call(&["start"], &bundle.params()).await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stdout, b"");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.starts_with("io.containerd.vminit.v1: cannot listen on "), "{error}");
    assert!(!bundle.path("address").exists() && !bundle.path("shim.pid").exists());
}

#[tokio::test]
async fn info_is_answered_without_any_task() {
    let bundle = Bundle::new();
    let options = Any { type_url: "containerd.runc.v1.Options".into(), ..Default::default() };
    let output = bundle.call(&["-info"], &options.write_to_bytes().unwrap()).await;
    assert!(output.status.success());
    assert_eq!(RuntimeInfo::parse_from_bytes(&output.stdout).unwrap().name, "io.containerd.vminit.v1");
}
