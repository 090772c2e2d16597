//! What a container's user sees of it from `ctr run` to its removal.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::alone::alone;
use crate::world::{configure, text, Said, PATIENCE, SOON};

#[test]
fn a_container_has_its_output_and_its_status() {
    alone(async |world| {
        let mut events = Listening::start(world.command(&["events"])).await;
        let output = world.ctr_run(&[], "c1", &["sh", "-c", "echo out; echo err >&2; exit 7"]).await;
        assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("out\n", Some(7)), "{output:?}");
        assert_eq!(text(&output.stderr), "err\n");
        for topic in ["create", "start", "exit", "delete"] {
            let event = events.until(&format!("/tasks/{topic} ")).await;
            assert!(event.contains("\"c1\""), "{event}");
        }
    });
}

#[test]
fn a_running_task_is_entered_paused_and_killed() {
    alone(async |world| {
        world.detach("c1", &["sleep", "1000"]).await;
        let exec = world.exec("c1", &["sh", "-c", "echo in; exit 9"]).await;
        assert_eq!((text(&exec.stdout).as_str(), exec.status.code()), ("in\n", Some(9)), "{exec:?}");
        world.ctr(&["task", "pause", "c1"]).await.succeeds();
        assert_eq!(world.tasks().await["c1"], "PAUSED");
        world.ctr(&["task", "resume", "c1"]).await.succeeds();
        assert_eq!(world.tasks().await["c1"], "RUNNING");
        world.ctr(&["task", "kill", "--signal", "KILL", "c1"]).await.succeeds();
        world.becomes("c1", "STOPPED", SOON).await;
        assert_eq!(world.delete("c1").await, 137);
    });
}

#[test]
fn a_detached_container_is_attached_to() {
    alone(async |world| {
        let script = "trap 'echo caught; exit 3' USR1; while :; do usleep 20000; done";
        world.detach("c1", &["sh", "-c", script]).await;
        let mut attached = Listening::start(world.command(&["task", "attach", "c1"])).await;
        // The trap may not have been set yet, so that this would kill the shell.
        world
            .exec("c1", &["sh", "-c", "until grep -q '^SigCgt:.*[1-9a-f]' /proc/1/status; do :; done"])
            .await;
        world.ctr(&["task", "kill", "--signal", "USR1", "c1"]).await.succeeds();
        attached.until("caught").await;
        assert_eq!(attached.status().await, Some(3));
        world.remove("c1").await;
    });
}

#[test]
fn the_end_of_stdin_reaches_the_container() {
    alone(async |world| {
        let mut ctr = world.command(&world.run(&["--rm"], "c1", &["cat"]));
        let ctr = ctr.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut ctr = ctr.spawn().expect("run ctr");
        let mut stdin = ctr.stdin.take().expect("it is a pipe");
        stdin.write_all(b"to and fro\n").await.expect("write to ctr");
        // An end that comes before the container runs `ctr` does not pass on.
        let mut stdout = BufReader::new(ctr.stdout.take().expect("it is a pipe")).lines();
        let line = timeout(PATIENCE, stdout.next_line()).await.expect("cat answers").expect("read from ctr");
        assert_eq!(line.as_deref(), Some("to and fro"));
        drop(stdin);
        let output = timeout(SOON, ctr.wait_with_output()).await.expect("cat ends").expect("wait for ctr");
        output.succeeds();
    });
}

#[test]
fn a_guest_that_cannot_boot_is_an_error_with_its_last_words() {
    alone(async |world| {
        if !world.has_machines() {
            return;
        }
        configure("rdinit=/nothing root=/dev/nothing");
        let error = world.ctr_run(&[], "c1", &["true"]).await.fails();
        assert!(error.contains("Kernel panic"), "{error}");
    });
}

/// What a call of `ctr` says, as it says it.
pub struct Listening {
    ctr: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Listening {
    pub async fn start(mut command: Command) -> Listening {
        let mut ctr = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("run ctr");
        let lines = BufReader::new(ctr.stdout.take().expect("it is a pipe")).lines();
        Listening { ctr, lines }
    }

    /// Waits for a line with this in it.
    pub async fn until(&mut self, part: &str) -> String {
        let found = async {
            while let Some(line) = self.lines.next_line().await.expect("read from ctr") {
                if line.contains(part) {
                    return line;
                }
            }
            panic!("ctr has ended without saying {part:?}")
        };
        timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("ctr does not say {part:?}"))
    }

    /// Waits for its end, with everything it says until then.
    pub async fn status(mut self) -> Option<i32> {
        let rest = async { while let Ok(Some(_)) = self.lines.next_line().await {} };
        timeout(PATIENCE, rest).await.expect("ctr says its last");
        timeout(SOON, self.ctr.wait()).await.expect("ctr ends").expect("wait for ctr").code()
    }
}
