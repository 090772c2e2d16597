//! The Streaming service against containerd's own client, which is in Go: its ttrpc, its streams, its window.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use vminit_shim::client::INIT;
use vminitd_test_support::{poll_until, Daemon, LIMIT};

use crate::rig::{assert_same, file, finish, pattern, running, LONG, MIB};

/// Builds the Go program. Without Go, or without its modules, there is none.
fn build() -> Option<PathBuf> {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
    let built = Command::new("go").args(["build", "-o"]).arg(&program).arg(".").current_dir(source).output();
    match built {
        Ok(built) if built.status.success() => Some(program),
        Ok(built) => {
            eprintln!("skipped: go build: {}", String::from_utf8_lossy(&built.stderr));
            None
        }
        Err(error) => {
            eprintln!("skipped: go: {error}");
            None
        }
    }
}

/// The Go host; it ends with the test.
struct Host {
    process: Child,
    log: PathBuf,
}

impl Drop for Host {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Host {
    /// Starts it and waits until both streams are open.
    async fn start(program: &Path, daemon: &Daemon, input: &Path, output: &Path) -> Host {
        let log = daemon.dir().join("go.log");
        let process = Command::new(program)
            .arg(daemon.dir().join("rpc.sock"))
            .args(["1", "2"])
            .stdin(File::open(input).expect("open the input"))
            .stdout(File::create(output).expect("make the output"))
            .stderr(File::create(&log).expect("make the log"))
            .spawn()
            .expect("start the Go host");
        let host = Host { process, log };
        let open = || (host.said() == "open\n").then_some(()).ok_or_else(|| host.said());
        poll_until(LIMIT, "two open streams", open).await;
        host
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).expect("read the log")
    }

    async fn ended_well(mut self) {
        let mut status = None;
        poll_until(LONG, "the end of the Go host", || {
            status = self.process.try_wait().map_err(|error| error.to_string())?;
            status.map(drop).ok_or_else(|| "it runs".to_owned())
        })
        .await;
        let status = status.expect("the poll ends with a status");
        assert!(status.success(), "{status}: {}", self.said());
        assert_eq!(self.said(), "open\n", "it has nothing to complain of");
    }
}

#[tokio::test]
async fn containerds_own_client_moves_bytes_through_cat() {
    let Some(program) = build() else { return };
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    let expected = pattern(16 * MIB);
    let (input, output) = (file(&daemon, &expected), daemon.dir().join("output"));
    let host = Host::start(&program, &daemon, &input, &output).await;
    running(&guest, "a", &["/bin/cat"], ["stream://1", "stream://2", ""]).await;
    host.ended_well().await;
    assert_eq!(finish(&guest, "a", INIT).await, 0, "cat saw the end of its stdin");
    assert_same(&std::fs::read(output).expect("read the output"), &expected);
    daemon.stop().await;
}
