//! Facts about the record of a container and about working it off.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use nix::mount::{mount, MsFlags};
use nix::sched::{unshare, CloneFlags};
use nix::sys::stat::Mode;
use nix::sys::wait::{waitid, Id, WaitPidFlag};
use nix::unistd::{mkfifo, Pid};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{timeout, Instant};
use vminit_shim::hooks::{ContainerState, Status};
use vminit_shim::plan::Hook;
use vminit_shim::state::{self, Deleted, Exit, Process, Role, State, StateError, Wiring};

/// What all of this may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn record(bundle: &Path) -> State {
    let container = ContainerState {
        oci_version: "1.2.0".into(),
        id: "c1".into(),
        status: Status::Creating,
        pid: Some(7),
        bundle: bundle.into(),
        annotations: BTreeMap::from([("a".into(), "b".into())]),
    };
    State::new("default".into(), container)
}

fn hook(script: &str) -> Hook {
    let args = ["sh", "-c", script].map(String::from).to_vec();
    Hook { path: "/bin/sh".into(), args, env: vec!["A=1".into()], timeout: Some(Duration::from_secs(3)) }
}

fn sleeper() -> (Child, Process) {
    let child = Command::new("sleep").arg("60").kill_on_drop(true).spawn().expect("start a process");
    let process = Process::of(child.id().expect("it runs")).expect("it has a start");
    (child, process)
}

async fn cleanup(dir: &Path) -> Result<Deleted, StateError> {
    state::cleanup(dir, async |_: &Path, _: &Wiring| {}).await
}

#[test]
fn a_folder_is_named_by_the_socket_the_namespace_and_the_id() {
    // sha256sum of `/c.sock/default/c1`.
    assert_eq!(state::dir("/c.sock", "default", "c1"), PathBuf::from("/run/vminit/eae8c92fce09779a"));
    assert_ne!(state::dir("/c.sock", "k8s.io", "c1"), state::dir("/c.sock", "default", "c1"));
}

#[test]
fn what_was_saved_is_loaded() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path().join("vminit/0");
    let mut state = record(Path::new("/b"));
    assert!(State::load(&dir).unwrap().is_none());
    state.save(&dir).unwrap();
    assert_eq!(State::load(&dir).unwrap(), Some(state.clone()));
    state.poststop.push(hook("true"));
    state.processes.insert(Role::Qemu, Process { pid: 1 << 22, start: u64::MAX });
    state.wiring =
        Wiring { namespace: Some("/n".into()), taps: vec!["tap0".into()], qdiscs: vec!["eth0".into()] };
    state.exit = Some(Exit { status: 3, at: UNIX_EPOCH + Duration::new(5, 6) });
    state.save(&dir).unwrap();
    assert_eq!(State::load(&dir).unwrap(), Some(state));
    for (path, mode) in [(dir.clone(), 0o700), (dir.join("state.json"), 0o600)] {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode, "{}", path.display());
    }
}

#[test]
fn a_record_that_was_only_half_written_is_not_read() {
    let dir = TempDir::new().unwrap();
    let state = record(Path::new("/b"));
    state.save(dir.path()).unwrap();
    fs::write(dir.path().join(".state.json"), "{\"namesp").unwrap();
    assert_eq!(State::load(dir.path()).unwrap(), Some(state.clone()));
    state.save(dir.path()).unwrap();
    assert_eq!(State::load(dir.path()).unwrap(), Some(state));
}

#[tokio::test]
async fn a_record_that_cannot_be_understood_is_kept_and_named() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("state.json");
    fs::write(&path, "{\"namesp").unwrap();
    assert!(
        matches!(cleanup(dir.path()).await, Err(StateError::Unknown { path: named, .. }) if named == path)
    );
    assert!(path.exists());
}

#[tokio::test]
async fn recorded_processes_are_killed_and_others_are_not() {
    let mut state = record(Path::new("/b"));
    let (mut qemu, recorded) = sleeper();
    let (mut recycled, other) = sleeper();
    let (mut unasked, holder) = sleeper();
    let (mut reaped, gone) = sleeper();
    reaped.kill().await.unwrap();
    let me = Process::of(std::process::id()).unwrap();
    state.processes = BTreeMap::from([
        (Role::Shim, me),
        (Role::Qemu, recorded),
        (Role::Vsock, Process { start: other.start - 1, ..other }),
        (Role::Virtiofsd, gone),
        (Role::Holder, holder),
    ]);
    let roles = [Role::Shim, Role::Qemu, Role::Vsock, Role::Virtiofsd];
    state.kill_recorded(&roles, PATIENCE).await.unwrap();
    let status = timeout(PATIENCE, qemu.wait()).await.unwrap().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    for spared in [&mut recycled, &mut unasked] {
        assert_eq!(spared.try_wait().unwrap(), None);
        spared.kill().await.unwrap();
    }
}

#[tokio::test]
async fn a_process_exists_until_it_is_reaped() {
    let (mut child, process) = sleeper();
    assert!(process.exists().unwrap());
    assert!(!Process { start: process.start + 1, ..process }.exists().unwrap());
    child.kill().await.unwrap();
    assert!(!process.exists().unwrap());
    assert!(matches!(Process::of(process.pid), Err(StateError::Process { .. })));
}

#[tokio::test]
async fn cleanup_undoes_all_of_it_and_may_be_repeated() {
    let bundle = TempDir::new().unwrap();
    let dir = bundle.path().join("state");
    let mut state = record(bundle.path());
    let (mut qemu, recorded) = sleeper();
    let (mut holder, held) = sleeper();
    state.processes = BTreeMap::from([(Role::Qemu, recorded), (Role::Holder, held)]);
    state.poststop = vec![hook("cat >> log")];
    state.wiring.taps.push("tap0".into());
    state.exit = Some(Exit { status: 3, at: UNIX_EPOCH });
    state.save(&dir).unwrap();
    fs::create_dir(dir.join("vm")).unwrap();
    let began = Instant::now();
    let mut unwired = None;
    let unwire = async |namespace: &Path, wiring: &Wiring| {
        // The VM is gone, and the namespace is still there.
        assert!(held.exists().unwrap() && namespace.exists());
        assert!(matches!(timeout(PATIENCE, qemu.wait()).await, Ok(Ok(_))));
        unwired = Some((namespace.to_owned(), wiring.clone()));
    };
    let deleted = state::cleanup(&dir, unwire).await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(4500));
    assert_eq!((deleted.pid, deleted.exit.status, deleted.exit.at), (held.pid, 3, UNIX_EPOCH));
    assert_eq!(unwired, Some((format!("/proc/{}/ns/net", held.pid).into(), state.wiring.clone())));
    timeout(PATIENCE, holder.wait()).await.unwrap().unwrap();
    assert!(!dir.exists());
    let said = fs::read_to_string(bundle.path().join("log")).unwrap();
    let seen: ContainerState = serde_json::from_str(&said).unwrap();
    assert_eq!(seen, ContainerState { status: Status::Stopped, pid: None, ..state.container });
    let again = cleanup(&dir).await.unwrap();
    assert_eq!((again.pid, again.exit.status), (0, 137));
}

#[tokio::test]
async fn poststop_comes_after_a_hook_that_the_shim_was_killed_in() {
    let bundle = TempDir::new().unwrap();
    let dir = bundle.path().join("state");
    for (slow, said) in
        [("sleep 0.3; printf add, >> log", "add,del"), ("exec sleep 60; printf add, >> log", "del")]
    {
        let mut orphan = Command::new("sh")
            .args(["-c", slow])
            .current_dir(bundle.path())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut state = record(bundle.path());
        state.poststop = vec![hook("printf del >> log")];
        state.record(&dir, Role::Hook, orphan.id().unwrap()).unwrap();
        assert_eq!(State::load(&dir).unwrap().as_ref(), Some(&state));
        let began = Instant::now();
        cleanup(&dir).await.unwrap();
        assert!(began.elapsed() < Duration::from_millis(4500));
        assert_eq!(fs::read_to_string(bundle.path().join("log")).unwrap(), said);
        fs::remove_file(bundle.path().join("log")).unwrap();
        timeout(PATIENCE, orphan.wait()).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn what_the_shim_recorded_until_it_was_killed_is_undone() {
    let bundle = TempDir::new().unwrap();
    let dir = bundle.path().join("state");
    let file = dir.join("state.json");
    let ((_shim, shim), (mut qemu, begun)) = (sleeper(), sleeper());
    let mut found = record(bundle.path());
    found.processes.insert(Role::Shim, shim);
    let mut last = found.clone();
    last.processes.insert(Role::Qemu, begun);
    fs::create_dir(&dir).unwrap();
    // Who reads it gets what is written next.
    mkfifo(&file, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    thread::spawn(move || {
        fs::write(&file, serde_json::to_vec(&found).unwrap()).unwrap();
        let shim = Id::Pid(Pid::from_raw(shim.pid.try_into().unwrap()));
        waitid(shim, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
        fs::write(&file, serde_json::to_vec(&last).unwrap()).unwrap();
    });
    cleanup(&dir).await.unwrap();
    timeout(PATIENCE, qemu.wait()).await.unwrap().unwrap();
    assert!(!dir.exists());
}

#[tokio::test]
async fn poststop_hooks_that_delete_ran_are_not_run_by_cleanup() {
    let bundle = TempDir::new().unwrap();
    let dir = bundle.path().join("state");
    let mut state = record(bundle.path());
    state.poststop = vec![hook("printf a >> log")];
    state.save(&dir).unwrap();
    state.poststop(&dir, |_| ()).await.unwrap();
    let deleted = cleanup(&dir).await.unwrap();
    assert_eq!(deleted.exit.status, 137);
    assert_eq!(fs::read_to_string(bundle.path().join("log")).unwrap(), "a");
}

#[tokio::test]
async fn a_hook_that_is_too_slow_for_delete_has_another_try() {
    let bundle = TempDir::new().unwrap();
    let dir = bundle.path().join("state");
    let mut state = record(bundle.path());
    state.poststop = vec![hook("printf a >> log; [ -e again ] || { touch again; sleep 60; }")];
    state.poststop[0].timeout = None;
    state.save(&dir).unwrap();
    let began = Instant::now();
    assert!(matches!(cleanup(&dir).await, Err(StateError::Late(_))));
    assert!(began.elapsed() < Duration::from_millis(4500));
    cleanup(&dir).await.unwrap();
    assert_eq!(fs::read_to_string(bundle.path().join("log")).unwrap(), "aa");
    assert!(!dir.exists());
}

#[tokio::test]
async fn nothing_is_removed_that_is_mounted_in_the_folder() {
    assert!(nix::unistd::geteuid().is_root(), "it takes root to mount");
    let dir = TempDir::new().unwrap();
    // What is mounted from here on is this thread's, and gone with it.
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    let (folder, volume) = (dir.path().join("state"), dir.path().join("volume"));
    let point = folder.join("share");
    fs::create_dir_all(&point).unwrap();
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("precious"), "").unwrap();
    mount(Some(&volume), &point, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    record(dir.path()).save(&folder).unwrap();
    assert!(matches!(cleanup(&folder).await, Err(StateError::Mounted(at)) if at == point));
    assert!(folder.join("state.json").exists() && volume.join("precious").exists());
    nix::mount::umount(&point).unwrap();
    cleanup(&folder).await.unwrap();
    assert!(!folder.exists() && volume.join("precious").exists());
}
