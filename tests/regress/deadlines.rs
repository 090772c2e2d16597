//! A runtime that hangs in every verb is killed at that verb's deadline, and nothing is left of it.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;
use vminit_shim::api::ttrpc::Code;
use vminitd_test_support::Daemon;

use crate::verbs::{a_life_goes_well, call, dispose, prepare, verbs, VERBS};

/// What a hanging call may take beyond its deadline: killing that runc, undoing a create, a machine under load.
const SLACK: Duration = Duration::from_secs(15);

/// A runtime that waits for ever: opencontainers/runc#3448, #4394. All verbs at once: it takes as long as the longest
/// deadline, a minute.
#[tokio::test]
async fn a_runc_that_hangs_is_killed_at_its_deadline() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    let before = daemon.open_descriptors();
    for (verb, _) in VERBS {
        prepare(&guest, verb, verb).await;
    }
    let holds = verbs().map(|verb| (verb, json!({verb: {"hold": "never"}})));
    daemon.script(&holds.into_iter().collect());
    let mut calls = JoinSet::new();
    for (verb, seconds) in VERBS {
        let guest = daemon.guest().await;
        let begun = Instant::now();
        calls.spawn(async move { (verb, seconds, call(&guest, verb, verb).await, begun.elapsed()) });
    }
    while let Some(ended) = calls.join_next().await {
        let (verb, seconds, answer, took) = ended.expect("join");
        let error = answer.expect_err(verb);
        assert_eq!(error.code(), Some(Code::DEADLINE_EXCEEDED), "{verb}: {error}");
        assert!(
            error.to_string().contains(&format!("runc {verb} did not end within {seconds} s")),
            "{error}"
        );
        let limit = Duration::from_secs(seconds);
        assert!(took >= limit && took < limit + SLACK, "{verb} took {took:?}");
    }
    daemon.script(&json!({}));
    for verb in verbs() {
        dispose(&daemon, &guest, verb, verb).await;
    }
    a_life_goes_well(&guest).await;
    daemon.assert_nothing_left(before).await;
    daemon.stop().await;
}
