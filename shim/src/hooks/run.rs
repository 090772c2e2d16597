//! Running hooks, one after the other. Owns each one's process group, its input and what it says on standard error.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{killpg, Signal};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, Command};
use tokio::time::timeout;

use super::{ContainerState, HookError};
use crate::plan::Hook;

/// A hook without a timeout of its own has this. Kubernetes waits as long for a whole Create
/// (`--runtime-request-timeout`).
const LIMIT: Duration = Duration::from_secs(120);
/// How much of the end of a hook's standard error is kept: nerdctl's last line says what was wrong.
const STDERR_MAX: usize = 4 << 10;
/// What a hook wrote is in the pipe when it ends; only a process that it has left behind can keep the pipe open so
/// long.
const DRAIN: Duration = Duration::from_millis(100);

/// Runs the hooks of a stage that must not fail, until one does. `began` gets the pid of each: one goes on when the
/// shim is killed, and whoever cleans up has to know.
///
/// # Errors
/// Any [`HookError`] of the first that fails; those behind it do not run.
pub async fn run(
    hooks: &[Hook],
    state: &ContainerState,
    mut began: impl FnMut(u32),
) -> Result<(), HookError> {
    for hook in hooks {
        run_one(hook, state, &mut began).await?;
    }
    Ok(())
}

/// Runs the hooks of a stage that goes on whatever happens (`poststart`, by the OCI runtime spec): failures are logged.
/// `began` is as of [`run`].
pub async fn run_all(hooks: &[Hook], state: &ContainerState, mut began: impl FnMut(u32)) {
    for hook in hooks {
        run_logged(hook, state, &mut began).await;
    }
}

pub(super) async fn run_logged(hook: &Hook, state: &ContainerState, began: &mut impl FnMut(u32)) {
    if let Err(error) = run_one(hook, state, began).await {
        tracing::warn!(id = state.id, "a hook failed: cannot {error}");
    }
}

async fn run_one(hook: &Hook, state: &ContainerState, began: &mut impl FnMut(u32)) -> Result<(), HookError> {
    let path = || hook.path.clone();
    let json = serde_json::to_vec(state).expect("its keys are texts");
    let mut running =
        Running::start(hook, &state.bundle).map_err(|source| HookError::Start { path: path(), source })?;
    began(running.child.id().expect("it has not been waited for"));
    let limit = hook.timeout.unwrap_or(LIMIT);
    let ended = timeout(limit, running.finish(&json)).await;
    if ended.is_ok() {
        running.drain().await;
    }
    let stderr = || running.said.text();
    match ended {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(HookError::Failed { path: path(), status, stderr: stderr() }),
        Ok(Err(source)) => Err(HookError::Wait { path: path(), source }),
        Err(_) => Err(HookError::Late { path: path(), limit, stderr: stderr() }),
    }
}

/// A hook at work. Dropping it kills whoever is in its process group, unless it has ended: what a hook leaves behind on
/// purpose, like a DHCP client, stays.
struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stderr: ChildStderr,
    said: Tail,
}

impl Running {
    fn start(hook: &Hook, bundle: &Path) -> io::Result<Running> {
        let (name, args) = hook.args.split_first().map_or((&hook.path, &[][..]), |(name, args)| (name, args));
        // As runc has it, whose folder is the bundle. That may be gone when the last hooks run.
        let folder = Some(bundle).filter(|bundle| bundle.is_dir()).unwrap_or(Path::new("/"));
        let mut child = Command::new(&hook.path)
            .arg0(name)
            .args(args)
            .env_clear()
            .envs(hook.env.iter().map(|entry| entry.split_once('=').unwrap_or((entry, ""))))
            .current_dir(folder)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdin = child.stdin.take();
        let stderr = child.stderr.take().expect("it was asked for");
        Ok(Running { child, stdin, stderr, said: Tail::default() })
    }

    /// Waits for its end, while it is fed and listened to.
    async fn finish(&mut self, input: &[u8]) -> io::Result<ExitStatus> {
        let talk = async {
            tokio::join!(feed(self.stdin.take(), input), self.said.fill(&mut self.stderr));
            pending::<Infallible>().await
        };
        tokio::select! {
            status = self.child.wait() => status,
            never = talk => match never {},
        }
    }

    /// Reads what it wrote just before its end.
    async fn drain(&mut self) {
        // It is no error to have left the pipe to somebody.
        let _ = timeout(DRAIN, self.said.fill(&mut self.stderr)).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // None once it has been waited for: then the number is no longer its group's for certain.
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            // An error means that nobody is left in it.
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// A hook need not read: that it has closed its input is no error.
async fn feed(stdin: Option<ChildStdin>, input: &[u8]) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(input).await;
    }
}

/// The last bytes of a stream.
#[derive(Default)]
struct Tail(Vec<u8>);

impl Tail {
    /// Reads until the stream ends.
    async fn fill(&mut self, stream: &mut ChildStderr) {
        let mut buffer = [0; STDERR_MAX];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            self.0.extend_from_slice(&buffer[..count]);
            self.0.drain(..self.0.len().saturating_sub(STDERR_MAX));
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).trim().to_owned()
    }
}
