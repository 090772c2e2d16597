//! The scripted runc keeps the promises that the black-box tests build on.
#![allow(
    clippy::disallowed_methods,
    reason = "the ban keeps children away from PID 1's back; this is not PID 1"
)]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::Signal;
use nix::sys::wait::{waitpid, WaitPidFlag, WaitStatus};
use nix::unistd::Pid;
use serde_json::{json, Value};
use tempfile::TempDir;

/// One test at a time: they share one process, and with it the orphans.
static ORPHANS: Mutex<()> = Mutex::new(());

/// A caller of the scripted runc that inherits its orphans, as vminitd does.
struct Caller {
    dir: TempDir,
    _orphans: MutexGuard<'static, ()>,
}

impl Caller {
    fn new() -> Self {
        let orphans = ORPHANS.lock().unwrap_or_else(PoisonError::into_inner);
        set_child_subreaper(true).expect("become a subreaper");
        Self { dir: tempfile::tempdir().expect("make a folder"), _orphans: orphans }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn script(&self, script: &Value) {
        fs::create_dir_all(self.path("runc")).expect("make the state directory");
        fs::write(self.path("runc/fake-runc.json"), script.to_string()).expect("write the script");
    }

    fn runc(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fake-runc"));
        command.arg("--root").arg(self.path("runc")).arg("--log").arg(self.path("log"));
        command.args(["--log-format", "json"]).args(words).output().expect("run fake-runc")
    }

    /// Creates a container that runs `program`; what the call came to.
    fn create(&self, id: &str, program: &[&str]) -> Output {
        fs::write(self.path("config.json"), json!({"process": {"args": program}}).to_string())
            .expect("write");
        let (bundle, pid) = (self.path("").display().to_string(), self.path("pid").display().to_string());
        // As a daemon does: its own files, not pipes that the container would hold open.
        let out = fs::File::create(self.path("out")).expect("make a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_fake-runc"));
        command.arg("--root").arg(self.path("runc")).arg("--log").arg(self.path("log"));
        command.args(["create", "--bundle", &bundle, "--pid-file", &pid, id]);
        command.stdout(out.try_clone().expect("share the file")).stderr(out);
        let status = command.status().expect("run fake-runc");
        Output { status, stdout: Vec::new(), stderr: fs::read(self.path("out")).expect("read") }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(fs::read_to_string(self.path("pid")).expect("a pid file").parse().expect("a pid"))
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let next = || waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG));
        while next().is_ok_and(|status| status != WaitStatus::StillAlive) {}
    }
}

#[test]
fn a_container_waits_for_start_and_is_the_callers_child() {
    let caller = Caller::new();
    assert!(caller.create("c", &["write", "stdout", "hi", ";", "exit", "7"]).status.success());
    let state: Value = serde_json::from_slice(&caller.runc(&["state", "c"]).stdout).expect("JSON");
    assert_eq!((&state["status"], &state["id"]), (&json!("created"), &json!("c")));
    assert!(caller.runc(&["start", "c"]).status.success());
    assert_eq!(waitpid(caller.pid(), None), Ok(WaitStatus::Exited(caller.pid(), 7)));
    assert_eq!(fs::read_to_string(caller.path("out")).expect("read"), "hi");
    assert!(!caller.runc(&["start", "c"]).status.success());
    assert!(caller.runc(&["delete", "c"]).status.success());
    assert!(!caller.runc(&["state", "c"]).status.success());
}

#[test]
fn a_zombie_is_left_to_the_caller() {
    let caller = Caller::new();
    caller.script(&json!({"create": {"c": {"dead": "zombie"}}}));
    assert!(caller.create("c", &["exit", "9"]).status.success());
    assert_eq!(waitpid(caller.pid(), None), Ok(WaitStatus::Exited(caller.pid(), 9)));
}

#[test]
fn a_reaped_process_is_gone_before_the_call_returns() {
    let caller = Caller::new();
    caller.script(&json!({"exec": {"c": {"dead": "reaped"}}}));
    assert!(caller.create("c", &["forever"]).status.success());
    let init = caller.pid();
    fs::write(caller.path("process.json"), json!({"args": ["exit", "5"]}).to_string()).expect("write");
    let (process, pid) = (caller.path("process.json"), caller.path("pid"));
    let mut exec = Command::new(env!("CARGO_BIN_EXE_fake-runc"));
    exec.arg("--root").arg(caller.path("runc")).args(["exec", "--detach", "--process"]).arg(process);
    let mut exec = exec.arg("--pid-file").arg(pid).arg("c").spawn().expect("run fake-runc");
    // The only other child is init, which lives: the next to die is the process of the exec, then its runc.
    let first = waitpid(Pid::from_raw(-1), None).expect("a child dies");
    assert!(exec.wait().expect("wait for runc").success());
    assert_eq!(first, WaitStatus::Exited(caller.pid(), 5));
    assert!(caller.runc(&["delete", "--force", "c"]).status.success());
    waitpid(init, None).expect("init is ours");
}

#[test]
fn the_script_makes_a_call_fail_die_and_be_silent_about_its_pid() {
    let caller = Caller::new();
    caller.script(&json!({"create": {
        "fails": {"fail": "told to", "stderr_bytes": 1000}, "dies": {"die_signal": 9}, "*": {"no_pid_file": true},
    }}));
    let failed = caller.create("fails", &["forever"]);
    assert_eq!(failed.status.code(), Some(1));
    assert_eq!(failed.stderr.len(), 1000 + "told to\n".len());
    let log: Value = serde_json::from_slice(&fs::read(caller.path("log")).expect("a log")).expect("JSON");
    assert_eq!((&log["level"], &log["msg"]), (&json!("error"), &json!("told to")));
    assert_eq!(caller.create("dies", &["forever"]).status.code(), None);
    assert!(caller.create("silent", &["exit", "0"]).status.success());
    assert!(!caller.path("pid").exists());
    assert!(caller.runc(&["delete", "silent"]).status.success());
}

#[test]
fn a_mistake_in_the_script_is_an_error() {
    let caller = Caller::new();
    caller.script(&json!({"create": {"c": {"dei_signal": 9}}}));
    let failed = caller.create("c", &["forever"]);
    assert!(String::from_utf8_lossy(&failed.stderr).contains("dei_signal"));
    assert_eq!(waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)).err(), Some(Errno::ECHILD));
}

#[test]
fn a_paused_container_takes_no_exec_and_no_delete_and_dies_of_sigkill_alone() {
    let caller = Caller::new();
    assert!(caller.create("c", &["forever"]).status.success());
    assert!(caller.runc(&["start", "c"]).status.success());
    assert!(caller.runc(&["pause", "c"]).status.success());
    assert_eq!(refusal(&caller.runc(&["pause", "c"])), "container not running");
    let state: Value = serde_json::from_slice(&caller.runc(&["state", "c"]).stdout).expect("JSON");
    assert_eq!(state["status"], "paused");
    let exec = caller.runc(&["exec", "--detach", "--process", "/nowhere", "--pid-file", "/nowhere", "c"]);
    assert!(refusal(&exec).starts_with("cannot exec in a paused container"));
    assert!(caller.runc(&["kill", "c", "15"]).status.success());
    assert_eq!(waitpid(caller.pid(), Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive));
    nix::sys::signal::kill(caller.pid(), Signal::SIGKILL).expect("kill past runc");
    assert_eq!(
        waitpid(caller.pid(), None),
        Ok(WaitStatus::Signaled(caller.pid(), Signal::SIGKILL, false)),
        "a stopped process takes no other signal"
    );
    assert_eq!(
        refusal(&caller.runc(&["delete", "c"])),
        "cannot delete container c that is not stopped: paused"
    );
    assert!(caller.runc(&["resume", "c"]).status.success());
    assert_eq!(refusal(&caller.runc(&["resume", "c"])), "container not paused");
    assert!(caller.runc(&["delete", "c"]).status.success());
}

#[test]
fn an_update_is_kept_and_a_checkpoint_ends_the_container() {
    let caller = Caller::new();
    assert!(caller.create("c", &["forever"]).status.success());
    let resources = json!({"pids": {"limit": 7}});
    fs::write(caller.path("resources.json"), resources.to_string()).expect("write");
    let file = caller.path("resources.json").display().to_string();
    assert!(caller.runc(&["update", "--resources", &file, "c"]).status.success());
    let kept = fs::read_to_string(caller.path("runc/c/resources.json")).expect("read");
    assert_eq!(serde_json::from_str::<Value>(&kept).expect("JSON"), resources);

    let image = caller.path("image").display().to_string();
    let early = caller.runc(&["checkpoint", "--image-path", &image, "c"]);
    assert_eq!(refusal(&early), "Container cannot be checkpointed in created state");
    assert!(caller.runc(&["start", "c"]).status.success());
    assert!(caller.runc(&["checkpoint", "--image-path", &image, "c"]).status.success());
    assert!(caller.path("image").is_dir());
    assert_eq!(waitpid(caller.pid(), None), Ok(WaitStatus::Signaled(caller.pid(), Signal::SIGKILL, false)));
}

/// What runc said as it refused.
fn refusal(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}
