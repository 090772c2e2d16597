//! Starts that fail, and runtimes that do something wrong with a console.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{json, Value};
use tokio::time::timeout;
use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::INIT;
use vminit_shim::spec;
use vminitd_test_support::calls::{reap, running as running_plain, state};
use vminitd_test_support::{code_of, Daemon, Machine, LIMIT};

use crate::rig::{closed, create, end, exec, Screen};

#[tokio::test]
async fn the_streams_of_a_terminal_that_cannot_be_started_are_closed_at_once() {
    let Some(machine) = Machine::start().await else { return };
    machine.sleeping("c").await;
    let before = machine.daemon.open_descriptors();
    let mut screen = Screen::open(&machine.guest).await;
    exec(&machine.guest, "c", "e", &["/no/such/program"], &screen).await;
    let shown = screen.collect();
    let error = machine.guest.start("c", "e").await.expect_err("there is no such program").to_string();
    assert!(error.contains("/no/such/program"), "{error}");
    let shown = timeout(LIMIT, shown).await.expect("closed at once").expect("join");
    assert!(shown.is_empty(), "{shown:?}");
    assert_eq!(state(&machine.guest, "c", "e").await.expect("state").pid, 0);
    machine.guest.delete("c", "e").await.expect("delete");
    closed(&machine.daemon, before).await;
    end(machine, "c").await;
}

/// A create and the start of an exec, each of which is to fail with these words and to leave nothing; how long that
/// took.
async fn broken_console(fault: Value, code: Code, words: &str) -> Duration {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    let before = daemon.open_descriptors();
    running_plain(&guest, "c", &["forever"]).await;
    daemon.script(&json!({"create": {"*": fault}, "exec": {"*": fault}}));
    let screens = [Screen::open(&guest).await, Screen::open(&guest).await];
    exec(&guest, "c", "e", &["forever"], &screens[0]).await;
    let config = spec::container(&["forever"]);
    let begun = Instant::now();
    let (created, started) =
        tokio::join!(create(&guest, "broken", &config, &screens[1]), guest.start("c", "e"));
    let took = begun.elapsed();
    for error in [created.expect_err("create"), started.expect_err("start")] {
        let text = error.to_string();
        assert!(text.contains(words), "{text}");
        assert_eq!(code_of(error), code);
    }
    for mut screen in screens {
        assert!(screen.collect().await.expect("join").is_empty());
    }
    assert_eq!(state(&guest, "broken", INIT).await.expect_err("rolled back"), Code::NOT_FOUND);
    guest.kill("c", INIT, 9).await.expect("kill");
    reap(&guest, "c", INIT).await;
    let _ = fs::remove_dir_all(daemon.dir().join("bundles/broken"));
    daemon.assert_nothing_left(before).await;
    daemon.stop().await;
    took
}

#[tokio::test]
async fn a_console_that_is_never_sent_is_an_error() {
    broken_console(json!({"console": "none"}), Code::INTERNAL, "left no usable console").await;
}

#[tokio::test]
async fn a_console_that_is_none_is_an_error() {
    for fault in ["closed", "null"] {
        let took = broken_console(json!({"console": fault}), Code::INTERNAL, "left no usable console").await;
        assert!(took < Duration::from_secs(9), "nothing more can come, and it was waited for: {took:?}");
    }
}

#[tokio::test]
async fn the_words_of_a_runc_that_fails_count_for_more_than_its_console() {
    broken_console(json!({"console": "none", "fail": "no more memory"}), Code::UNKNOWN, "no more memory")
        .await;
}

#[tokio::test]
async fn a_console_may_be_sent_when_runc_has_ended() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    daemon.script(&json!({"create": {"*": {"console": "late"}}}));
    let mut screen = Screen::open(&guest).await;
    let config = spec::container(&["write", "stdout", "hello", ";", "cat"]);
    let create = create(&guest, "c", &config, &screen);
    let release = async {
        daemon.called("create", "c").await;
        daemon.release("console");
    };
    tokio::join!(create, release).0.expect("create");
    guest.start("c", INIT).await.expect("start");
    screen.shows("hello").await;
    screen.types(b"a line\n").await;
    screen.shows("a line\r\na line").await;
    guest.kill("c", INIT, 9).await.expect("kill");
    reap(&guest, "c", INIT).await;
    daemon.stop().await;
}
