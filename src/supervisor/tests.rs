//! An agent that really runs, on a clock that leaps over the pauses between its lives.

use std::os::unix::fs::PermissionsExt;

use super::*;

/// The only test of the crate with a reaper: a second one would take its children.
#[tokio::test(start_paused = true)]
async fn an_agent_that_ends_at_once_is_started_eleven_times_and_given_up_after_181_seconds() {
    let dir = tempfile::tempdir().expect("a folder");
    let places = Places::beneath(dir.path(), None);
    let binary = dir.path().join("var/lib/spin-stack/bin/spin-supervisor");
    fs::create_dir_all(binary.parent().expect("a folder")).expect("folders");
    fs::write(&binary, "#!/bin/sh\necho life in ${SPINBOX_OVERLAY_ROOT:-no container}\nexit 7\n")
        .expect("a script");
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).expect("a mode");

    let (reaper, _fatal) = Reaper::start().expect("a reaper");
    let file_limit = crate::sys::rlimit::nofile().expect("a limit");
    let settings =
        Settings { binary: None, delay: Duration::from_secs(5), root: dir.path().into(), file_limit };
    let (created, creates) = watch::channel(None);
    let began = Instant::now();
    let supervisor =
        start(settings, reaper, Disks::new(), creates, std::future::ready(())).expect("it starts");
    // Without a bound: the clock would leap to it while the agent runs.
    created.closed().await;
    assert_eq!(began.elapsed().as_secs(), 5 + 181);
    assert!(supervisor.task.finish(STOP).await, "it gives up by itself");
    assert_eq!(fs::read_to_string(&places.log).expect("a log"), "life in no container\n".repeat(11));
    assert!(!places.pid_file.exists());
}
