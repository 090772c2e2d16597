//! The guest's agent, as a script that a host has put in its place: when it is started and with what, what becomes of
//! it when it ends, and its own end. Its pauses and its giving up are tested on a clock of their own, in
//! `src/supervisor/`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use vminit_shim::client::INIT;
use vminitd_test_support::calls::{create, running};
use vminitd_test_support::{poll_until, Daemon, LIMIT, MIB};

/// Where it is looked for, and where one that arrives under `run` is copied to.
const INSTALLED: &str = "var/lib/spin-stack/bin/spin-supervisor";
const PID_FILE: &str = "run/spin-supervisor.pid";
const LOG: &str = "var/log/spin-supervisor.log";

/// A script that says its pid and waits.
const STAYS: &str = "echo life $$; exec sleep 1000";

/// Puts a script there, not executable, as a file that comes with a disk may be.
fn put(daemon: &Daemon, name: &str, script: &str) {
    let path = daemon.dir().join(name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a script");
    fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("a mode");
}

fn read(daemon: &Daemon, name: &str) -> String {
    fs::read_to_string(daemon.dir().join(name)).unwrap_or_default()
}

/// Waits until what the agent printed is as it should be.
async fn printed(daemon: &Daemon, done: impl Fn(&str) -> bool) -> String {
    let mut log = String::new();
    let look = || {
        log = read(daemon, LOG);
        done(&log).then_some(()).ok_or_else(|| format!("it printed {log:?}"))
    };
    poll_until(LIMIT, "the agent's log", look).await;
    log
}

/// Waits until a process is gone, its zombie too.
async fn gone(pid: &str) {
    let process = PathBuf::from("/proc").join(pid);
    let look = || (!process.exists()).then_some(()).ok_or_else(|| "it is there".to_owned());
    poll_until(LIMIT, &format!("the end of {pid}"), look).await;
}

#[tokio::test]
async fn it_is_started_by_the_first_create_with_a_clean_environment_and_a_pid_file() {
    let daemon = Daemon::with_fake_runc().await;
    put(
        &daemon,
        INSTALLED,
        r#"tr '\0' '\n' </proc/$$/environ; cut -d' ' -f6 /proc/$$/stat; echo $# args; echo life $$ >&2; exec sleep 1000"#,
    );
    assert!(!daemon.log().contains("agent"), "nothing happens before there is a container");
    let guest = daemon.guest().await;
    running(&guest, "first", &["forever"]).await;
    let log = printed(&daemon, |log| log.contains("life")).await;
    create(&guest, "second", &["forever"]).await.expect("create");

    let pid = read(&daemon, PID_FILE);
    let rootfs = daemon.bundle("first").join("rootfs");
    let expected = format!(
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nSPINBOX_OVERLAY_ROOT={}\n{pid}0 args\nlife {pid}",
        rootfs.display()
    );
    assert_eq!(log, expected, "the session is the agent's own");
    let mode = fs::metadata(daemon.dir().join(INSTALLED)).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    // The life of the agent is no request's.
    guest.kill("first", INIT, 9).await.expect("kill");
    guest.wait("first", INIT).await.expect("wait");
    guest.delete("first", INIT).await.expect("delete");
    assert_eq!(read(&daemon, PID_FILE), pid);
    daemon.terminate();
    daemon.logged("the supervisor agent is stopped").await;
    gone(pid.trim()).await;
    assert!(!daemon.dir().join(PID_FILE).exists());
    assert_eq!(daemon.log().matches("the supervisor agent is started ").count(), 1);
    daemon.stopped_in_order().await;
}

#[tokio::test]
async fn one_that_arrives_later_under_run_is_copied_and_started_by_the_next_create() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    create(&guest, "first", &["forever"]).await.expect("create");
    daemon.logged("there is no supervisor agent").await;
    put(&daemon, "run/spin-stack/default/b/spin-supervisor", "exit 1");
    put(
        &daemon,
        "run/spin-stack/default/a/spin-supervisor",
        r#"echo $0 $SPINBOX_OVERLAY_ROOT; exec sleep 1000"#,
    );
    create(&guest, "second", &["forever"]).await.expect("create");
    let log = printed(&daemon, |log| log.ends_with('\n')).await;
    let (agent, rootfs) = (daemon.dir().join(INSTALLED), daemon.bundle("first").join("rootfs"));
    assert_eq!(log, format!("{} {}\n", agent.display(), rootfs.display()));
    daemon.stop().await;
}

#[tokio::test]
async fn a_create_that_fails_starts_nothing() {
    let daemon = Daemon::with_fake_runc().await;
    put(&daemon, INSTALLED, STAYS);
    let guest = daemon.guest().await;
    daemon.script(&serde_json::json!({"create": {"bad": {"fail": "on purpose"}}}));
    create(&guest, "bad", &["forever"]).await.expect_err("the runtime fails");
    create(&guest, "good", &["forever"]).await.expect("create");
    daemon.logged("the supervisor agent is started").await;
    let log = daemon.log();
    let (created, started) =
        (log.find("created container=good"), log.find("the supervisor agent is started"));
    assert!(created.is_some() && created < started, "{log}");
    daemon.stop().await;
}

#[tokio::test]
async fn one_that_ends_is_started_again_after_a_pause_and_what_it_left_is_killed() {
    let daemon = Daemon::with_fake_runc().await;
    put(&daemon, INSTALLED, "sleep 1000 & echo $!; exit 7");
    let guest = daemon.guest().await;
    let began = Instant::now();
    create(&guest, "c", &["forever"]).await.expect("create");
    let log = printed(&daemon, |log| log.lines().count() == 3).await;
    assert!(began.elapsed() >= Duration::from_secs(1 + 2), "{:?}", began.elapsed());
    for child in log.lines() {
        gone(child).await;
    }
    daemon.logged("the supervisor agent is to be restarted pause_s=4").await;
    assert!(!daemon.dir().join(PID_FILE).exists(), "no pid of a process that is gone");
    let log = daemon.log();
    assert!(log.contains("exit=\"code 7\""), "{log}");
    // No pause holds up the stop.
    let stopping = Instant::now();
    daemon.stop().await;
    assert!(stopping.elapsed() < Duration::from_secs(4), "{:?}", stopping.elapsed());
}

#[tokio::test]
async fn one_that_cannot_be_run_is_tried_again_and_may_be_mended() {
    let daemon = Daemon::with_fake_runc().await;
    put(&daemon, INSTALLED, "");
    fs::write(daemon.dir().join(INSTALLED), "no program").expect("a file");
    let guest = daemon.guest().await;
    create(&guest, "c", &["forever"]).await.expect("create");
    daemon.logged("the supervisor agent cannot be run").await;
    put(&daemon, INSTALLED, STAYS);
    printed(&daemon, |log| log.starts_with("life")).await;
    daemon.stop().await;
}

#[tokio::test]
async fn what_it_prints_is_kept_up_to_a_bound_and_never_blocks_it() {
    let daemon = Daemon::with_fake_runc().await;
    let script = format!("yes filler | head -c {}; echo life $$; exec sleep 1000", 2 * MIB);
    put(&daemon, INSTALLED, &script);
    let guest = daemon.guest().await;
    create(&guest, "c", &["forever"]).await.expect("create");
    printed(&daemon, |log| log.contains("life")).await;
    let files = fs::read_dir(daemon.dir().join("var/log")).expect("a folder");
    let lengths: Vec<u64> =
        files.map(|file| file.and_then(|file| file.metadata()).expect("a file").len()).collect();
    assert_eq!(lengths.len(), 2);
    assert!(lengths.iter().sum::<u64>() <= MIB as u64, "{lengths:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn one_that_ignores_sigterm_is_killed_with_its_children_at_the_stop() {
    let daemon = Daemon::with_fake_runc().await;
    put(&daemon, INSTALLED, "trap 'echo asked' TERM; sleep 1000 & echo $!; while :; do wait; done");
    let guest = daemon.guest().await;
    create(&guest, "c", &["forever"]).await.expect("create");
    let child = printed(&daemon, |log| log.ends_with('\n')).await;
    let agent = read(&daemon, PID_FILE);
    let stopping = Instant::now();
    daemon.terminate();
    daemon.logged("the supervisor agent is killed").await;
    assert!(stopping.elapsed() >= Duration::from_secs(5), "{:?}", stopping.elapsed());
    for pid in [agent.trim(), child.trim()] {
        gone(pid).await;
    }
    assert_eq!(read(&daemon, LOG), format!("{child}asked\n"));
    daemon.stopped_in_order().await;
}
