//! A runtime that goes wrong, in every verb: a clear error of the right code, nothing left behind, and the daemon goes
//! on.
//!
//! An error pipe that nobody drained: containerd/containerd#4434 (opencontainers/runc#2530); what a failed one left behind: containerd/containerd#11885, #1743.

use serde_json::{json, Value};
use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::Guest;
use vminitd_test_support::{binaries, Daemon, Level, Wrapper};

use crate::verbs::{a_life_goes_well, call, dispose, prepare, verbs};

/// Verbs that leave a process, and with it a pid file.
const LEAVING: [&str; 2] = ["create", "exec"];

/// With `$here/loud`: a megabyte of errors in the log and on stderr. With `$here/lie`: does the job of `$verb`, then
/// names in the pid file a process that is dead and was never in a container.
const MISDEEDS: &str = r#"
noise='{"level":"error","msg":"an earlier error"}'
if [ -e "$here/loud-$verb" ]; then
    yes "$noise" | head -c 1048576 >> "$log"
    yes "$noise" | head -c 1048576 >&2
    printf '\n' >> "$log"
fi
if [ -e "$here/lie-$verb" ]; then
    "$runtime" "$@" && echo $$ > "$pid_file"
    exit
fi
if [ -e "$here/silent-$verb" ]; then
    echo 'only on stderr' >&2
    exit 3
fi
"#;

/// A daemon on the scripted runc, which can be told to do worse than its script.
struct Bench {
    daemon: Daemon,
    guest: Guest,
    descriptors: usize,
    // After the daemon, which uses it to clean up.
    wrapper: Wrapper,
}

impl Bench {
    async fn start() -> Self {
        let wrapper = Wrapper::around(&binaries::fake_runc(), MISDEEDS);
        let daemon = Daemon::with_runtime(&wrapper.path()).await;
        let guest = daemon.guest().await;
        let descriptors = daemon.open_descriptors();
        Self { daemon, guest, descriptors, wrapper }
    }

    /// Lets every one of `verbs` fail as `spoil` says, and looks at the error: its code, and what its text has in it.
    async fn check(
        &self,
        verbs: &[&str],
        spoil: impl Fn(&str),
        mend: impl Fn(&str),
        (code, words): (Code, &[&str]),
    ) {
        for verb in verbs {
            prepare(&self.guest, verb, verb).await;
            spoil(verb);
            let error = call(&self.guest, verb, verb).await.expect_err(verb);
            mend(verb);
            let text = error.to_string();
            assert_eq!(error.code(), Some(code), "{verb}: {text}");
            for word in words {
                assert!(text.contains(word), "{verb}: no {word:?} in {text:?}");
            }
            assert!(text.len() < 4096 && !text.contains("an earlier error"), "{verb}: {text}");
            dispose(&self.daemon, &self.guest, verb, verb).await;
            a_life_goes_well(&self.guest).await;
        }
    }

    fn script(&self, verb: &str, behaviour: Value) {
        self.daemon.script(&json!({verb: {verb: behaviour}}));
    }

    fn behave(&self) {
        self.daemon.script(&json!({}));
    }

    async fn end(self) {
        self.daemon.assert_nothing_left(self.descriptors).await;
        assert_eq!(Level::of(&self.daemon).files, 0, "files of invocations are left");
        self.daemon.stop().await;
        drop(self.wrapper);
    }
}

#[tokio::test]
async fn a_runc_that_prints_a_megabyte_of_errors_is_quoted_with_the_last() {
    let bench = Bench::start().await;
    let spoil = |verb: &str| {
        bench.wrapper.flag(&format!("loud-{verb}"));
        bench.script(verb, json!({"stderr_bytes": 1 << 20, "fail": "the last words"}));
    };
    let mend = |verb: &str| {
        bench.wrapper.unflag(&format!("loud-{verb}"));
        bench.behave();
    };
    bench.check(&verbs(), spoil, mend, (Code::UNKNOWN, &["failed: the last words"])).await;
    bench.end().await;
}

#[tokio::test]
async fn a_runc_that_logs_nothing_is_quoted_from_its_stderr() {
    let bench = Bench::start().await;
    let spoil = |verb: &str| bench.wrapper.flag(&format!("silent-{verb}"));
    let mend = |verb: &str| bench.wrapper.unflag(&format!("silent-{verb}"));
    let with_stderr: Vec<&str> = verbs().into_iter().filter(|verb| !LEAVING.contains(verb)).collect();
    bench.check(&with_stderr, spoil, mend, (Code::UNKNOWN, &["failed: only on stderr"])).await;
    // What these print goes to the container's stderr.
    bench.check(&LEAVING, spoil, mend, (Code::UNKNOWN, &["gave no reason"])).await;
    bench.end().await;
}

#[tokio::test]
async fn a_runc_that_dies_by_a_signal_is_an_error_that_names_it() {
    let bench = Bench::start().await;
    let spoil = |verb: &str| bench.script(verb, json!({"die_signal": 6}));
    bench.check(&verbs(), spoil, |_| bench.behave(), (Code::UNKNOWN, &["signal 6"])).await;
    bench.end().await;
}

#[tokio::test]
async fn a_runc_that_is_missing_is_an_error_that_says_so() {
    let bench = Bench::start().await;
    let (spoil, mend) = (|_: &str| bench.wrapper.take_away(), |_: &str| bench.wrapper.put_back());
    bench.check(&verbs(), spoil, mend, (Code::INTERNAL, &["start runc", "No such file"])).await;
    bench.end().await;
}

#[tokio::test]
async fn a_runc_that_leaves_no_pid_file_is_an_error_and_its_process_is_killed() {
    let bench = Bench::start().await;
    let spoil = |verb: &str| bench.script(verb, json!({"no_pid_file": true}));
    bench.check(&LEAVING, spoil, |_| bench.behave(), (Code::INTERNAL, &["no usable pid file"])).await;
    bench.end().await;
}

#[tokio::test]
async fn a_runc_that_names_a_dead_process_is_an_error_and_its_process_is_killed() {
    let bench = Bench::start().await;
    let spoil = |verb: &str| bench.wrapper.flag(&format!("lie-{verb}"));
    let mend = |verb: &str| bench.wrapper.unflag(&format!("lie-{verb}"));
    bench.check(&LEAVING, spoil, mend, (Code::INTERNAL, &["is not a child of ours"])).await;
    bench.end().await;
}
