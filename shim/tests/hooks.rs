//! Facts about hooks: what they get, in which order they run, what is said of those that fail, and how often `poststop`
//! runs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use vminit_shim::hooks::{self, ContainerState, HookError, PoststopError, Status};
use vminit_shim::plan::Hook;

/// What all of this may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn state(bundle: &Path) -> ContainerState {
    ContainerState {
        oci_version: "1.2.0".into(),
        id: "c1".into(),
        status: Status::Creating,
        pid: Some(7),
        bundle: bundle.into(),
        annotations: BTreeMap::from([("a".into(), "b".into())]),
    }
}

fn sh(script: &str) -> Hook {
    let args = ["sh", "-c", script].map(String::from).to_vec();
    Hook { path: "/bin/sh".into(), args, env: vec!["PATH=/usr/bin:/bin".into()], timeout: None }
}

async fn run(hooks: &[Hook], state: &ContainerState) -> Result<(), HookError> {
    hooks::run(hooks, state, |_| {}).await
}

async fn poststop(marker: &Path, hooks: &[Hook], state: &ContainerState) -> Result<(), PoststopError> {
    hooks::poststop(marker, hooks, state, |_| {}).await
}

fn read(path: PathBuf) -> String {
    fs::read_to_string(path).expect("read what a hook wrote")
}

async fn appears(path: &Path) {
    let deadline = Instant::now() + PATIENCE;
    while !path.exists() {
        assert!(Instant::now() < deadline, "{} is not there", path.display());
        sleep(Duration::from_millis(5)).await;
    }
}

/// Whether the process ends; a zombie that nobody reaps has.
async fn ends(pid: &str) {
    let deadline = Instant::now() + PATIENCE;
    let runs = || fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    while runs() {
        assert!(Instant::now() < deadline, "{pid} still runs");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_hook_gets_the_state_its_arguments_its_environment_and_the_bundle() {
    let bundle = TempDir::new().unwrap();
    let mut hook =
        sh("cat > stdin; tr '\\0' '\\n' < /proc/$$/cmdline > args; tr '\\0' '\\n' < /proc/$$/environ > env");
    hook.args[0] = "other-name".into();
    hook.env.extend(["A=1=2".into(), "EMPTY=".into()]);
    run(&[hook], &state(bundle.path())).await.unwrap();
    let json: Value = serde_json::from_str(&read(bundle.path().join("stdin"))).unwrap();
    assert_eq!(json, serde_json::to_value(state(bundle.path())).unwrap());
    assert!(read(bundle.path().join("args")).starts_with("other-name\n-c\n"));
    let mut env: Vec<String> = read(bundle.path().join("env")).lines().map(String::from).collect();
    env.sort();
    assert_eq!(env, ["A=1=2", "EMPTY=", "PATH=/usr/bin:/bin"]);
}

#[tokio::test]
async fn hooks_run_in_order_until_one_fails() {
    let bundle = TempDir::new().unwrap();
    let hooks = [
        sh("sleep 0.1; printf a >> log"),
        sh("printf b >> log; echo ignored; echo why not >&2; exit 3"),
        sh("printf c >> log"),
    ];
    match run(&hooks, &state(bundle.path())).await {
        Err(error @ HookError::Failed { .. }) => {
            assert_eq!(error.to_string(), "run the hook /bin/sh: it ended with exit status: 3: why not");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(read(bundle.path().join("log")), "ab");
    hooks::run_all(&hooks, &state(bundle.path()), |_| {}).await;
    assert_eq!(read(bundle.path().join("log")), "ababc");
}

#[tokio::test]
async fn each_hook_is_announced_when_it_begins() {
    let bundle = TempDir::new().unwrap();
    let hooks = [sh("printf $$, >> log"), sh("printf $$, >> log")];
    let (mut pids, state) = (String::new(), state(bundle.path()));
    hooks::run(&hooks, &state, |pid| pids.push_str(&format!("{pid},"))).await.unwrap();
    hooks::poststop(&bundle.path().join("p"), &hooks, &state, |pid| pids.push_str(&format!("{pid},")))
        .await
        .unwrap();
    assert_eq!(read(bundle.path().join("log")), pids);
}

#[tokio::test]
async fn a_hook_that_cannot_start_is_named() {
    let hook = Hook { path: "/nowhere/hook".into(), args: Vec::new(), env: Vec::new(), timeout: None };
    let error = run(&[hook], &state(Path::new("/"))).await.unwrap_err();
    assert!(error.to_string().starts_with("start the hook /nowhere/hook: No such file"), "{error}");
}

#[tokio::test]
async fn a_hook_that_takes_too_long_is_killed_with_its_children() {
    let bundle = TempDir::new().unwrap();
    let mut hook = sh("sleep 60 & echo $! > child; echo slow >&2; wait");
    hook.timeout = Some(Duration::from_secs(1));
    match run(&[hook], &state(bundle.path())).await {
        Err(HookError::Late { stderr, limit, .. }) => {
            assert_eq!((stderr.as_str(), limit), ("slow", Duration::from_secs(1)));
        }
        other => panic!("{other:?}"),
    }
    ends(read(bundle.path().join("child")).trim()).await;
}

#[tokio::test]
async fn what_a_hook_leaves_behind_stays_and_delays_nobody() {
    let bundle = TempDir::new().unwrap();
    let started = Instant::now();
    // It has all three descriptors of the hook.
    run(&[sh("sleep 60 & echo $! > child")], &state(bundle.path())).await.unwrap();
    let took = started.elapsed();
    let child = read(bundle.path().join("child"));
    let killed = tokio::process::Command::new("kill").arg(child.trim()).status().await.unwrap();
    assert!(killed.success(), "it had gone");
    assert!(took < PATIENCE, "{took:?}");
}

#[tokio::test]
async fn a_hook_need_not_read_and_may_say_a_lot() {
    let bundle = TempDir::new().unwrap();
    let mut state = state(bundle.path());
    // More than a pipe holds.
    state.annotations.insert("long".into(), "x".repeat(1 << 20));
    run(&[sh("exec <&-")], &state).await.unwrap();
    run(&[sh("exit 0")], &state).await.unwrap();
    run(&[sh("[ $(wc -c) -gt 1048576 ]")], &state).await.unwrap();
    let loud = sh("head -c 1000000 /dev/zero | tr '\\0' x >&2; echo the end >&2; exit 1");
    match run(&[loud], &state).await {
        Err(HookError::Failed { stderr, .. }) => {
            assert!(stderr.ends_with("xthe end"));
            assert!(stderr.len() <= 4096, "{}", stderr.len());
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn poststop_runs_all_its_hooks_once() {
    let bundle = TempDir::new().unwrap();
    let marker = bundle.path().join("poststop");
    let hooks = [sh("printf a >> log; exit 1"), sh("printf b >> log")];
    let state = state(bundle.path());
    let (first, second) = tokio::join!(poststop(&marker, &hooks, &state), poststop(&marker, &hooks, &state));
    first.unwrap();
    second.unwrap();
    poststop(&marker, &hooks, &state).await.unwrap();
    assert_eq!(read(bundle.path().join("log")), "ab");
}

#[tokio::test]
async fn after_a_crash_poststop_goes_on_with_the_hook_that_was_cut_off() {
    let bundle = TempDir::new().unwrap();
    let marker = bundle.path().join("poststop");
    let cut = "printf b >> log; [ -e again ] || { touch again; sleep 60; }";
    let hooks = [sh("printf a >> log"), sh(cut), sh("printf c >> log")];
    let state = state(bundle.path());
    let again = bundle.path().join("again");
    tokio::select! {
        ended = poststop(&marker, &hooks, &state) => panic!("{ended:?}"),
        () = appears(&again) => {}
    }
    assert_eq!(read(bundle.path().join("log")), "ab");
    timeout(PATIENCE, poststop(&marker, &hooks, &state)).await.unwrap().unwrap();
    assert_eq!(read(bundle.path().join("log")), "abbc");
}

#[tokio::test]
async fn poststop_runs_nothing_while_another_process_is_at_it() {
    let bundle = TempDir::new().unwrap();
    let marker = bundle.path().join("poststop");
    let held = Flock::lock(File::create(&marker).unwrap(), FlockArg::LockExclusive).unwrap();
    let hooks = [sh("printf a >> log")];
    let state = state(bundle.path());
    let refused = poststop(&marker, &hooks, &state).await;
    assert!(matches!(refused, Err(PoststopError::Busy(_))), "{refused:?}");
    assert!(!bundle.path().join("log").exists());
    drop(held);
    poststop(&marker, &hooks, &state).await.unwrap();
    assert_eq!(read(bundle.path().join("log")), "a");
}

#[tokio::test]
async fn hooks_run_though_the_bundle_is_gone() {
    let log = TempDir::new().unwrap();
    let script = format!("pwd > {}/log", log.path().display());
    run(&[sh(&script)], &state(Path::new("/nowhere"))).await.unwrap();
    assert_eq!(read(log.path().join("log")), "/\n");
}
