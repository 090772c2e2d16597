//! Running the binary once: spawn, drain, deadline, verdict.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::console::ConsoleSocket;
use super::life::tears_down;
use super::output::Output;
use super::scratch::Scratch;
use super::{log, Container, Created, RuncError};
use crate::reaper::{Child, Exit, Pid, Window};
use crate::sys::process::{dev_null, Program};
use crate::sys::pty::Pty;
use crate::sys::signal::Signal;

/// How long a killed runc may take to end; one that hangs in the kernel is given up.
const KILLED: Duration = Duration::from_secs(5);

/// The end of stderr that goes into an error, when the log says nothing.
const REASON_BYTES: usize = 1024;

/// A verb of runc and its arguments, but for the id of the container.
pub(super) struct Invocation {
    pub verb: &'static str,
    pub args: Vec<OsString>,
    /// What follows the id.
    pub after_id: Option<OsString>,
    limit: Duration,
}

impl Invocation {
    pub fn new(verb: &'static str, limit: Duration) -> Invocation {
        Invocation { verb, args: Vec::new(), after_id: None, limit }
    }

    pub fn arg(&mut self, arg: impl Into<OsString>) -> &mut Self {
        self.args.push(arg.into());
        self
    }

    pub fn args(&mut self, args: impl IntoIterator<Item = impl Into<OsString>>) {
        self.args.extend(args.into_iter().map(Into::into));
    }

    pub fn after_id(&mut self, arg: impl Into<OsString>) {
        self.after_id = Some(arg.into());
    }

    fn start_failed(&self) -> impl Fn(std::io::Error) -> RuncError {
        let verb = self.verb;
        move |source| RuncError::Start { verb, source }
    }
}

impl Container {
    /// Runs an invocation that looks or changes something and leaves no process; returns its stdout.
    pub(super) async fn run(&self, call: Invocation) -> Result<Vec<u8>, RuncError> {
        let scratch = self.scratch(call.verb)?;
        let failed = call.start_failed();
        let (mut stdout, out) = Output::new().map_err(&failed)?;
        let (mut stderr, err) = Output::new().map_err(&failed)?;
        let program = self.program(&call, &scratch, [dev_null().map_err(&failed)?, out, err])?;
        let child = self.runtime.reaper.spawn(&program).map_err(&failed)?;
        // Our copies of the child's ends: as long as they are open the pipes have no end.
        drop(program);
        let exit = tokio::select! {
            exit = self.end(child, &call) => exit?,
            never = stdout.collect() => match never {},
            never = stderr.collect() => match never {},
        };
        verdict(&call, exit, &scratch, &stderr.finish())?;
        Ok(stdout.finish())
    }

    /// Runs an invocation that leaves a process behind, with this stdio or else with a console.
    pub(super) async fn leave_process(
        &self,
        mut call: Invocation,
        scratch: &Scratch,
        stdio: Option<[OwnedFd; 3]>,
    ) -> Result<Created, RuncError> {
        let (stdio, expected) = match stdio {
            Some(stdio) => (stdio, None),
            None => {
                let (stdio, console) = prepare_console(&mut call, scratch).map_err(call.start_failed())?;
                (stdio, Some(console))
            }
        };
        let program = self.program(&call, scratch, stdio)?;
        let turn = self.runtime.turn(call.verb).await?;
        let (child, window) = self.runtime.reaper.spawn_with_window(&program).map_err(call.start_failed())?;
        drop(program);
        let (socket, printed) = expected.unzip();
        let ended = self.end_well(child, &call, scratch, printed).await;
        drop(turn);
        let console = match (ended, socket) {
            (Ok(()), Some(socket)) => self.receive_console(&call, socket).await.map(Some),
            (ended, _) => ended.map(|()| None),
        };
        match (console, read_pid(&call, scratch)) {
            (Ok(console), Ok(pid)) => Ok(Created { pid, window, console }),
            // Killed at its deadline, or without a console, runc may have started the process all the same: nobody
            // would know of it.
            (Err(error), Ok(pid)) => {
                kill_leftover(window, pid);
                Err(error)
            }
            (Err(error), Err(_)) | (Ok(_), Err(error)) => Err(error),
        }
    }

    /// Waits for runc to end, and well. What it had to say is in `printed`, or in the container's stderr, which was its
    /// own.
    async fn end_well(
        &self,
        child: Child,
        call: &Invocation,
        scratch: &Scratch,
        printed: Option<Output>,
    ) -> Result<(), RuncError> {
        let Some(mut stderr) = printed else {
            return verdict(call, self.end(child, call).await?, scratch, &[]);
        };
        let exit = tokio::select! {
            exit = self.end(child, call) => exit?,
            never = stderr.collect() => match never {},
        };
        verdict(call, exit, scratch, &stderr.finish())
    }

    async fn receive_console(&self, call: &Invocation, socket: ConsoleSocket) -> Result<Pty, RuncError> {
        let verb = call.verb;
        let unusable = |e: io::Error| RuncError::Result { verb, what: "console", reason: e.to_string() };
        tokio::select! {
            console = socket.receive() => console.map_err(unusable),
            () = self.life.is_over(verb) => Err(RuncError::Ended { verb }),
            () = self.runtime.stopping() => Err(RuncError::Stopping { verb }),
        }
    }

    fn program(
        &self,
        call: &Invocation,
        scratch: &Scratch,
        stdio: [OwnedFd; 3],
    ) -> Result<Program, RuncError> {
        let argv = self.command(call, scratch);
        Program::new(&argv, stdio, self.runtime.settings.file_limit).map_err(call.start_failed())
    }
}

impl Container {
    /// Waits for runc to end. At its deadline, when it is of no use any more, or when the daemon stops, it is killed
    /// with all it started.
    async fn end(&self, mut child: Child, call: &Invocation) -> Result<Exit, RuncError> {
        let verb = call.verb;
        let gone = |source| RuncError::Reaper { verb, source };
        let error = tokio::select! {
            biased;
            reaped = child.exit.wait() => {
                let exit = reaped.map_err(gone)?.exit;
                return child.exec.failure().map_or(Ok(exit), |error| Err(call.start_failed()(error)));
            }
            () = tokio::time::sleep(call.limit) => RuncError::Deadline { verb, limit: call.limit },
            () = self.life.is_over(verb) => RuncError::Ended { verb },
            () = self.runtime.stopping(), if !tears_down(verb) => RuncError::Stopping { verb },
        };
        tracing::warn!(pid = %child.process.pid, %error, "runc is killed");
        self.runtime.reaper.kill_group(&child);
        if tokio::time::timeout(KILLED, child.exit.wait()).await.is_err() {
            tracing::error!(pid = %child.process.pid, verb, "runc does not die");
        }
        Err(error)
    }
}

/// Has runc send the console of the process. Its own stdio is none of the container's then; what it prints is kept.
fn prepare_console(
    call: &mut Invocation,
    scratch: &Scratch,
) -> io::Result<([OwnedFd; 3], (ConsoleSocket, Output))> {
    let path = scratch.console_socket();
    let socket = ConsoleSocket::bind(&path)?;
    call.arg("--console-socket").arg(path);
    let (stderr, err) = Output::new()?;
    Ok(([dev_null()?, dev_null()?, err], (socket, stderr)))
}

fn kill_leftover(window: Window, pid: Pid) {
    if let Ok((process, _)) = window.claim(pid) {
        // ESRCH: it has ended by itself.
        let _ = process.signal(Signal::KILL);
    }
}

fn verdict(call: &Invocation, exit: Exit, scratch: &Scratch, stderr: &[u8]) -> Result<(), RuncError> {
    if exit == Exit::Code(0) {
        return Ok(());
    }
    let reason = log::last_error(&scratch.log_file())
        .or_else(|| tail(stderr))
        .unwrap_or_else(|| format!("it ended with {exit} and gave no reason"));
    Err(RuncError::Refused { verb: call.verb, reason })
}

/// The end of what was printed, for want of a line in the log.
fn tail(stderr: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(&stderr[stderr.len().saturating_sub(REASON_BYTES)..]);
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn read_pid(call: &Invocation, scratch: &Scratch) -> Result<Pid, RuncError> {
    let unusable = |reason| RuncError::Result { verb: call.verb, what: "pid file", reason };
    let text = fs::read_to_string(scratch.pid_file()).map_err(|e| unusable(e.to_string()))?;
    let pid = text.trim().parse().ok().and_then(Pid::new);
    pid.ok_or_else(|| unusable(format!("it holds {:?}", text.chars().take(20).collect::<String>())))
}
