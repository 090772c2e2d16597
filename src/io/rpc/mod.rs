//! Stdio that is reached by calls (URI `rpcio://`): the queue in front of a stdin, the fan-out behind an output.
//!
//! Its relays run from the moment the pipes are there, so that a host may write and subscribe before Start. It never
//! blocks a process for ever because nobody reads.

mod input;
mod output;

use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::watch;
use tokio::task::AbortHandle;

pub use input::{Input, InputError};
pub use output::{CutOff, Output, Subscription};

use crate::io::deletion::Deletion;
use crate::tracked::Tracked;

/// One of the two outputs of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlet {
    Stdout,
    Stderr,
}

impl Outlet {
    pub fn name(self) -> &'static str {
        match self {
            Outlet::Stdout => "stdout",
            Outlet::Stderr => "stderr",
        }
    }
}

/// Those of the three of one process that are reached by calls; a handle.
#[derive(Clone, Default)]
pub struct Served {
    pub stdin: Option<Input>,
    pub stdout: Option<Output>,
    pub stderr: Option<Output>,
}

impl Served {
    /// The output of that name.
    pub fn output(&self, outlet: Outlet) -> Option<&Output> {
        match outlet {
            Outlet::Stdout => self.stdout.as_ref(),
            Outlet::Stderr => self.stderr.as_ref(),
        }
    }
}

/// The relay of a stdin. Dropping it ends the stdin; writes that wait fail.
pub struct ServedStdin(AbortHandle);

impl Drop for ServedStdin {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts to feed a pipe.
pub fn serve_stdin(pipe: Sender, tasks: &Tracked) -> (Input, ServedStdin) {
    let (input, queue) = input::queue();
    (input, ServedStdin(tasks.spawn(input::feed(queue, pipe))))
}

/// Starts to read a pipe, and says on `done` when it was read to its end. When the process is deleted
/// subscriptions end, and the rest is read for nobody until `stopping` turns true.
pub fn serve_output(
    pipe: Receiver,
    done: watch::Sender<bool>,
    deletion: Deletion,
    stopping: watch::Receiver<bool>,
    tasks: &Tracked,
) -> Output {
    let (output, feed) = output::output();
    tasks.spawn(output::fan_out(pipe, feed, done, deletion, stopping));
    output
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::unix::pipe::pipe;

    #[tokio::test]
    async fn what_is_read_for_nobody_ends_at_the_stop() {
        let tasks = Tracked::default();
        let (_held, from_process) = pipe().expect("a pipe");
        let (done_tx, mut done) = watch::channel(false);
        let (kept, deletion) = crate::io::deletion::deletion();
        let (stop, stopping) = watch::channel(false);
        serve_output(from_process, done_tx, deletion, stopping, &tasks);
        drop(kept);
        stop.send_replace(true);
        done.wait_for(|done| *done).await.expect("the end is told");
    }

    #[tokio::test]
    async fn when_the_process_is_deleted_writes_fail_and_subscriptions_end() {
        let tasks = Tracked::default();
        let (to_process, _stdin) = pipe().expect("a pipe");
        let (mut stdout, from_process) = pipe().expect("a pipe");
        let (input, relay) = serve_stdin(to_process, &tasks);
        let (done_tx, mut done) = watch::channel(false);
        let (kept, deletion) = crate::io::deletion::deletion();
        let (_stop, stopping) = watch::channel(false);
        let output = serve_output(from_process, done_tx, deletion, stopping, &tasks);
        let (waiting, subscription) = (input.write(vec![0; 1 << 20]), output.subscribe());
        drop((relay, kept));
        assert_eq!(waiting.await, Err(InputError::Closed));
        assert_eq!(input.write(vec![0]).await, Err(InputError::Closed));
        assert_eq!(subscription.next().await, Ok(None));
        assert_eq!(output.subscribe().next().await, Ok(None));
        stdout.write_all(&vec![0; 1 << 20]).await.expect("who still holds the pipe is not killed");
        drop(stdout);
        done.wait_for(|done| *done).await.expect("the end is told");
    }
}
