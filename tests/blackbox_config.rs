//! The configuration and the log of the program itself: what it prints, and that a log nobody reads holds up nothing.
#![allow(clippy::disallowed_methods, reason = "tests are not PID 1")]

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::sys::signal::{kill, Signal};
use nix::unistd::{pipe2, Pid};
use serde_json::{json, Value};
use tempfile::TempDir;
use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::{context, Endpoint, Guest};
use vminitd_test_support::calls::{create, create_in};
use vminitd_test_support::{binaries, poll_until, Daemon, LIMIT};

fn vminitd(args: &[&str]) -> Output {
    let mut command = Command::new(binaries::vminitd());
    command.args(args).env("SPINBOX_OCI_RUNTIME", "/sbin/theirs").stdin(Stdio::null());
    command.output().expect("it runs")
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("it prints text")
}

fn path(dir: &TempDir, name: &str, text: &str) -> String {
    let path = dir.path().join(name);
    fs::write(&path, text).expect("it is written");
    path.to_str().expect("a plain path").to_owned()
}

#[test]
fn print_config_shows_every_key_with_its_source() {
    let dir = TempDir::new().expect("a folder");
    let line =
        "quiet vminitd.host=spinbox vminitd.io-drain-ms=700 vminitd.log=xml ip=10.0.0.2::10.0.0.1::::eth0";
    let cmdline = path(&dir, "cmdline", line);
    let config =
        path(&dir, "config.json", r#"{"rpc_port": 1025, "io_drain_ms": 900, "hostname": "vm", "x": 1}"#);
    let flags = ["-print-config", "-cmdline", &cmdline, "-config", &config, "-vsock-stream-port=1026"];
    let output = vminitd(&flags);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let lines: Vec<&str> = stdout(&output).lines().collect();
    for line in [
        "host=spinbox (command line)",
        "vsock_rpc_port=1025 (file)",
        "vsock_stream_port=1026 (flag)",
        "io_drain_ms=700 (command line)",
        "spec=relaxed (profile spinbox)",
        "poweroff_after_prepare=true (profile spinbox)",
        "runtime=/sbin/theirs (environment)",
        "hostname=vm (file)",
        "ip=10.0.0.2::10.0.0.1::::eth0 (command line)",
        "log=text (default)",
        "supervisor= (default)",
        "# invalid value \"xml\" for log (command line): expected text or json",
        "# unknown key \"x\" (file)",
    ] {
        assert!(lines.contains(&line), "{line} is not in {lines:#?}");
    }
}

#[test]
fn print_config_reads_what_pid1_would_and_never_fails() {
    let output = vminitd(&["-print-config", "-nofile=0", "-nope"]);
    assert!(output.status.success(), "{output:?}");
    let text = stdout(&output);
    assert!(
        text.contains("nofile=65536 (default)\n") && text.contains("# unknown key \"nope\" (flag)\n"),
        "{text}"
    );
    // The reader may go before it has read anything.
    let mut child = Command::new(binaries::vminitd());
    let mut child = child.arg("-print-config").stdout(Stdio::piped()).spawn().expect("it runs");
    drop(child.stdout.take());
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn the_version_is_printed() {
    let output = vminitd(&["-v"]);
    assert!(output.status.success());
    assert!(stdout(&output).starts_with("vminitd "), "{output:?}");
}

#[tokio::test]
async fn the_log_may_be_json_and_its_milestones_stay_plain() {
    let daemon = Daemon::with_flags(&binaries::fake_runc(), &["-log=json"]).await;
    daemon.guest().await;
    let look =
        || daemon.log().contains("phase=first-accept").then_some(()).ok_or_else(|| "not yet".to_owned());
    poll_until(LIMIT, "the milestones", look).await;
    let log = daemon.log();
    let (milestones, lines): (Vec<&str>, Vec<&str>) =
        log.lines().partition(|line| line.starts_with("VMINITD_READY uptime_us="));
    let phases: Vec<&str> =
        milestones.iter().filter_map(|line| Some(line.split_once(" phase=")?.1)).collect();
    assert_eq!(phases, ["vsock-listen", "serve", "first-accept"]);
    assert!(!lines.is_empty(), "it runs with -debug");
    for line in lines {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        assert!(
            value["time_us"].is_u64() && value["level"].is_string() && value["msg"].is_string(),
            "{line}"
        );
    }
    daemon.stop().await;
}

#[test]
fn the_operations_guide_has_every_key() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/OPERATIONS.md");
    let guide = fs::read_to_string(guide).expect("it is there");
    let output = vminitd(&["-print-config"]);
    for line in stdout(&output).lines().filter(|line| !line.starts_with("# ")) {
        let (key, rest) = line.split_once('=').expect("a key and its value");
        let row = guide.lines().find(|row| row.starts_with(&format!("| `{key}` |")));
        let row = row.unwrap_or_else(|| panic!("{key} is not in docs/OPERATIONS.md"));
        let number = rest.strip_suffix(" (default)").filter(|value| value.parse::<u64>().is_ok());
        assert!(number.is_none_or(|number| row.contains(&format!("| {number} |"))), "{row} is not {line}");
    }
}

#[tokio::test]
async fn bounds_that_are_set_are_held() {
    let flags = ["-requests-in-flight=1", "-runc-create-s=3"];
    let daemon = Daemon::with_flags(&binaries::fake_runc(), &flags).await;
    daemon.script(&json!({"create": {"c": {"hold": "never released"}}}));
    let guest = Arc::new(daemon.guest().await);
    let creating = tokio::spawn({
        let guest = guest.clone();
        async move { create(&guest, "c", &["forever"]).await }
    });
    daemon.called("create", "c").await;
    let second = create_in(&guest, "d", "/does/not/exist").await;
    assert_eq!(second, Err(Code::RESOURCE_EXHAUSTED), "one call at a time");
    let begin = Instant::now();
    creating.await.expect("join").expect_err("its runc is killed");
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}: the default is a minute", begin.elapsed());
    daemon.stop().await;
}

/// A daemon whose log goes to a pipe that is full, as is its own queue, and that nobody has read.
struct Unread {
    child: Child,
    log: File,
    dir: TempDir,
}

impl Unread {
    async fn start() -> Unread {
        let dir = TempDir::new().expect("a folder");
        let (log, writer) = pipe2(OFlag::O_CLOEXEC).expect("a pipe");
        let socket = |name: &str| format!("unix://{}/{name}.sock", dir.path().display());
        let child = Command::new(binaries::vminitd())
            .args(["-debug", "-listen", &socket("rpc"), "-stream-listen", &socket("stream"), "-state-dir"])
            .arg(dir.path())
            .stdin(Stdio::null())
            .stderr(writer)
            .spawn()
            .expect("it starts");
        let unread = Unread { child, log: log.into(), dir };
        unread.answers().await;
        // Each connection is logged twice, with some 25 bytes: more than a pipe of 64 KiB and the daemon's 64 KiB hold.
        for _ in 0..6_000 {
            UnixStream::connect(unread.dir.path().join("rpc.sock")).expect("it listens");
        }
        unread
    }

    async fn answers(&self) {
        let endpoint = |name: &str| Endpoint::Unix(self.dir.path().join(format!("{name}.sock")));
        let guest = Guest::connect(endpoint("rpc"), endpoint("stream"), LIMIT).await.expect("it answers");
        let info = guest.client.system().info(context(LIMIT, "default"), &Default::default()).await;
        info.expect("it answers");
    }

    fn terminate(&self) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("it is there");
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        // After a test that failed half-way; else it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_log_that_nobody_reads_delays_nothing_and_its_loss_is_told() {
    let mut unread = Unread::start().await;
    unread.answers().await;
    unread.terminate();
    let mut text = String::new();
    unread.log.read_to_string(&mut text).expect("it logs text");
    assert!(unread.child.wait().expect("it ends").success());
    let dropped = text.lines().filter(|line| line.contains("log lines were dropped lines=")).count();
    assert!(dropped > 0, "nothing was dropped in {} bytes", text.len());
    assert!(text.ends_with("info stopped cause=SIGTERM\n"), "the last lines are written before the end");
}

#[tokio::test]
async fn a_log_that_nobody_ever_reads_does_not_hold_up_the_end() {
    let mut unread = Unread::start().await;
    unread.terminate();
    let begin = Instant::now();
    assert!(unread.child.wait().expect("it ends").success());
    assert!(begin.elapsed() < LIMIT, "{:?}", begin.elapsed());
}
