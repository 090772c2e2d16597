//! The Streaming service against containerd's own client, which is in Go: its ttrpc, its streams, its window.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use vminit_shim::client::INIT;
use vminitd_test_support::calls::reap;
use vminitd_test_support::chance::noise;
use vminitd_test_support::{poll_until, Daemon, LIMIT, MIB, PATIENCE};

use crate::rig::{assert_same, file, running};

/// How long Go may take to download, and to compile, all that containerd's client needs: minutes with an empty cache.
const PATIENCE_WITH_GO: Duration = Duration::from_secs(600);

/// The pause between two looks at a process.
const PAUSE: Duration = Duration::from_millis(5);

/// A process of the Go program or of the tool; it ends with the test.
struct Process {
    child: Child,
    log: PathBuf,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// Starts it with its standard error in `log`.
    fn start(command: &mut Command, log: PathBuf) -> std::io::Result<Process> {
        let child = command.stderr(File::create(&log).expect("make the log")).spawn()?;
        Ok(Process { child, log })
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).expect("read the log")
    }

    /// Waits for its end; `None`: it has not come within the limit.
    async fn end(&mut self, limit: Duration) -> Option<ExitStatus> {
        let end = async {
            loop {
                if let Some(status) = self.child.try_wait().expect("look at the process") {
                    return status;
                }
                sleep(PAUSE).await;
            }
        };
        timeout(limit, end).await.ok()
    }
}

/// Builds the Go program. `None`, which is said: there is no Go, or no way to its modules.
async fn build(program: &Path) -> Option<()> {
    let logs = TempDir::new().expect("make a folder");
    let go = |args: &[&str], log: &str| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
        let mut go = Command::new("go");
        go.args(args).current_dir(source).stdin(Stdio::null()).stdout(Stdio::null());
        Process::start(&mut go, logs.path().join(log))
    };
    let mut download = match go(&["mod", "download"], "download") {
        Ok(download) => download,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: there is no go");
            return None;
        }
        Err(error) => panic!("start go: {error}"),
    };
    if !download.end(PATIENCE_WITH_GO).await.is_some_and(|status| status.success()) {
        eprintln!("skipped: go mod download: {}", download.said());
        return None;
    }
    let target = program.to_str().expect("the folder's name is text");
    let mut build = go(&["build", "-o", target, "."], "build").expect("start go");
    let status = build.end(PATIENCE_WITH_GO).await.expect("go build ends in time");
    assert!(status.success(), "go build: {}", build.said());
    Some(())
}

/// Starts the Go host and waits until both its streams are open.
async fn start(program: &Path, daemon: &Daemon, input: &Path, output: &Path) -> Process {
    let mut command = Command::new(program);
    command.arg(daemon.dir().join("rpc.sock")).args(["1", "2"]);
    command.stdin(File::open(input).expect("open the input"));
    command.stdout(File::create(output).expect("make the output"));
    let host = Process::start(&mut command, daemon.dir().join("go.log")).expect("start the Go host");
    let open = || (host.said() == "open\n").then_some(()).ok_or_else(|| host.said());
    poll_until(LIMIT, "two open streams", open).await;
    host
}

#[tokio::test]
async fn containerds_own_client_moves_bytes_through_cat() {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop");
    let Some(()) = build(&program).await else { return };
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    let expected = noise(16 * MIB);
    let (input, output) = (file(&daemon, &expected), daemon.dir().join("output"));
    let mut host = start(&program, &daemon, &input, &output).await;
    running(&guest, "a", &["/bin/cat"], ["stream://1", "stream://2", ""]).await;
    let status = host.end(PATIENCE).await.expect("the Go host ends");
    assert!(status.success(), "{status}: {}", host.said());
    assert_eq!(host.said(), "open\n", "it has nothing to complain of");
    assert_eq!(reap(&guest, "a", INIT).await, 0, "cat saw the end of its stdin");
    assert_same(&std::fs::read(output).expect("read the output"), &expected);
    daemon.stop().await;
}
