//! A vminitd that runs as an ordinary process, in a state directory of its own. Owns its start, its stop, and the
//! clean-up after a test that failed half-way.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::mount::{umount2, MntFlags};
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use vminit_shim::client::{Endpoint, Guest};

use crate::{binaries, leaks, poll_until, EventLog, LIMIT};

/// How long the daemon may take to stop in order with containers to kill.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// How much of the daemon's log a failed test shows, in bytes from its end.
const LOG_SHOWN: usize = 16 * 1024;

/// A daemon under test.
pub struct Daemon {
    process: Child,
    runtime: PathBuf,
    dir: TempDir,
    stopped: bool,
}

impl Daemon {
    /// Starts a daemon on the scripted runc.
    pub async fn with_fake_runc() -> Self {
        Self::with_runtime(&binaries::fake_runc()).await
    }

    /// Starts a daemon on this runtime and waits until it answers.
    pub async fn with_runtime(runtime: &Path) -> Self {
        Self::with_flags(runtime, &[]).await
    }

    /// The same, with flags of its own.
    pub async fn with_flags(runtime: &Path, flags: &[&str]) -> Self {
        // Socket paths have room for 107 bytes (unix(7)), so the folder's name is short.
        let dir = tempfile::Builder::new().prefix("vmd").tempdir().expect("make a state directory");
        fs::create_dir(dir.path().join("runc")).expect("make runc's state directory");
        let log = File::create(dir.path().join("log")).expect("make the log");
        let socket = |name: &str| format!("unix://{}/{name}.sock", dir.path().display());
        let process = Command::new(binaries::vminitd())
            .args(["-debug", "-listen", &socket("rpc"), "-stream-listen", &socket("stream")])
            .arg("-state-dir")
            .arg(dir.path())
            .arg("-runtime")
            .arg(runtime)
            .args(flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share the log"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("start {}: {e}", binaries::vminitd().display()));
        let daemon = Self { process, runtime: runtime.to_owned(), dir, stopped: false };
        daemon.guest().await;
        daemon
    }

    /// A new connection to it, as a host has.
    pub async fn guest(&self) -> Guest {
        let stream = Endpoint::Unix(self.dir.path().join("stream.sock"));
        Guest::connect(self.rpc(), stream, LIMIT).await.expect("the daemon answers")
    }

    /// Its RPC port.
    pub fn rpc(&self) -> Endpoint {
        Endpoint::Unix(self.dir.path().join("rpc.sock"))
    }

    /// A new connection, and everything that happened from now on.
    pub async fn guest_and_events(&self) -> (Guest, EventLog) {
        let guest = self.guest().await;
        let events = EventLog::subscribe(&guest).await;
        (guest, events)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sets how many descriptors it may have from now on, with prlimit(1) of util-linux.
    pub fn limit_descriptors(&self, soft: usize) {
        let arguments = [format!("--pid={}", self.pid()), format!("--nofile={soft}:")];
        let status = Command::new("prlimit").args(arguments).status().expect("util-linux is installed");
        assert!(status.success(), "prlimit ended with {status}");
    }

    /// A folder for what the test itself needs; it goes with the daemon.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where it puts the bundle of a container.
    pub fn bundle(&self, id: &str) -> PathBuf {
        self.dir.path().join("bundles").join(id)
    }

    /// Removes the bundle that a failed create has left, as its host does, there being no call for it.
    pub fn remove_bundle(&self, id: &str) {
        fs::remove_dir_all(self.bundle(id)).expect("remove a bundle");
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.path().join("log")).unwrap_or_default()).into_owned()
    }

    /// The end of what it logged, for the one who looks into a failure.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let from = log.len().saturating_sub(LOG_SHOWN);
        log.get(from..).unwrap_or(&log).to_owned()
    }

    /// Sets the script of the scripted runc, for calls that begin from now on.
    pub fn script(&self, script: &Value) {
        let next = self.runc_dir().join(".next");
        fs::write(&next, script.to_string()).expect("write the script");
        fs::rename(&next, self.runc_dir().join("fake-runc.json")).expect("put the script in place");
    }

    /// Ends the `hold` of this name in the script.
    pub fn release(&self, hold: &str) {
        File::create(self.dir.path().join("runc").join(hold)).expect("release a hold");
    }

    /// The command lines of the scripted runc's calls of this verb for this container.
    pub fn calls(&self, verb: &str, id: &str) -> Vec<Vec<String>> {
        let calls = self.invocations().into_iter().filter(|call| call["verb"] == verb && call["id"] == id);
        calls.map(|call| words(&call["argv"])).collect()
    }

    /// The verbs of all of its calls for this container, in order.
    pub fn verbs(&self, id: &str) -> Vec<String> {
        let calls = self.invocations().into_iter().filter(|call| call["id"] == id);
        calls.map(|call| call["verb"].as_str().unwrap_or_default().to_owned()).collect()
    }

    fn invocations(&self) -> Vec<Value> {
        let log = fs::read_to_string(self.runc_dir().join("invocations.log")).unwrap_or_default();
        log.lines().map(|line| serde_json::from_str(line).expect("a line of the record is JSON")).collect()
    }

    /// Waits until the scripted runc was called so.
    pub async fn called(&self, verb: &str, id: &str) {
        let look = || if self.calls(verb, id).is_empty() { Err("no call yet".to_owned()) } else { Ok(()) };
        poll_until(LIMIT, &format!("runc {verb} {id}"), look).await;
    }

    /// Waits until the scripted runc has made this file in its state directory.
    pub async fn runc_dir_has(&self, name: &str) {
        let path = self.runc_dir().join(name);
        let look = || if path.exists() { Ok(()) } else { Err("not there".to_owned()) };
        poll_until(LIMIT, name, look).await;
    }

    /// How many descriptors it has open, to be given to [`assert_nothing_left`](Self::assert_nothing_left).
    pub fn open_descriptors(&self) -> usize {
        leaks::descriptors(self.pid()).len()
    }

    /// Waits until no child, mount, container, bundle or further descriptor is left.
    pub async fn assert_nothing_left(&self, descriptors_before: usize) {
        poll_until(LIMIT, "nothing left behind", || self.nothing_left(descriptors_before)).await;
    }

    fn nothing_left(&self, descriptors_before: usize) -> Result<(), String> {
        let nothing = |what: &str, found: Vec<String>| match found.is_empty() {
            true => Ok(()),
            false => Err(format!("{what}: {found:?}")),
        };
        nothing("children", leaks::children(self.pid()))?;
        nothing("mounts", leaks::mounts(self.pid(), self.dir.path()))?;
        nothing("containers", leaks::folders(&self.runc_dir()))?;
        nothing("bundles", leaks::folders(&self.dir.path().join("bundles")))?;
        let open = leaks::descriptors(self.pid());
        if open.len() > descriptors_before {
            return Err(format!("{descriptors_before} descriptors became {}: {open:?}", open.len()));
        }
        Ok(())
    }

    /// Asks it to stop with SIGTERM.
    pub fn terminate(&self) {
        kill(Pid::from_raw(self.pid() as i32), Signal::SIGTERM).expect("signal the daemon");
    }

    /// Waits until it has said this in its log.
    pub async fn logged(&self, words: &str) {
        let look = || self.log().contains(words).then_some(()).ok_or_else(|| "not in the log".to_owned());
        poll_until(LIMIT, words, look).await;
    }

    /// Asks it to stop and waits for the end.
    pub async fn stop(self) {
        self.terminate();
        self.stopped_in_order().await;
    }

    /// Waits for the end of a daemon that was asked to stop, which is to be in order and to leave nothing.
    pub async fn stopped_in_order(mut self) {
        let status = self.ended().await;
        assert!(status.success(), "the daemon ended with {status}");
        let left = leaks::folders(&self.runc_dir());
        assert!(left.is_empty(), "containers left behind: {left:?}");
        let name = self.dir.path().to_string_lossy().into_owned();
        let look = || match leaks::processes_naming(&name) {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        };
        poll_until(LIMIT, "no process left behind", look).await;
    }

    /// Waits until it has ended, by whatever was done to it.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        poll_until(STOP_LIMIT, "the daemon's end", || {
            status = self.process.try_wait().map_err(|e| e.to_string())?;
            status.map(drop).ok_or_else(|| "it runs".to_owned())
        })
        .await;
        self.stopped = true;
        status.expect("the poll ends with a status")
    }

    fn runc_dir(&self) -> PathBuf {
        self.dir.path().join("runc")
    }

    /// Removes what a daemon that was killed could not: containers, then mounts, the deepest first.
    fn clean_up(&self) {
        for id in leaks::folders(&self.runc_dir()) {
            let mut delete = Command::new(&self.runtime);
            delete.arg("--root").arg(self.runc_dir()).args(["delete", "--force", &id]);
            let _ = delete.stderr(Stdio::null()).status();
        }
        for point in leaks::mounts(std::process::id(), self.dir.path()).iter().rev() {
            let _ = umount2(point.as_str(), MntFlags::MNT_DETACH);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if !self.stopped {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
        self.clean_up();
        if std::thread::panicking() {
            eprintln!("--- the daemon's log\n{}---", self.log_tail());
        }
    }
}

fn words(argv: &Value) -> Vec<String> {
    let argv = argv.as_array().expect("a call has an argv");
    argv.iter().map(|word| word.as_str().unwrap_or_default().to_owned()).collect()
}
