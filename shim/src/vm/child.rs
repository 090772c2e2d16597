//! The processes of one virtual machine. Owns starting them so that they cannot outlive us, what they are allowed, and
//! ending them for certain.

use std::env;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use tokio::net::unix::pipe;
use tokio::process::{ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::end::{status, Part};
use super::tail::Tail;
use super::{User, VmError};
use crate::sys::Pidfd;

/// How long a killed process may take to go; it is only longer if the machine is stuck in the kernel. Below the 3 s
/// that containerd gives a shutdown.
pub(super) const REAP: Duration = Duration::from_secs(2);
/// What a process has written can be read as soon as it has ended, unless a child of its own holds the pipe.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// The number of the first descriptor that is handed to a program; the others follow it.
pub(super) const FIRST_FD: usize = 3;

/// What a program may do.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rights {
    /// All that we may.
    Ours,
    /// What belongs to our user, without capabilities.
    NoCapabilities,
    /// What belongs to this user and to this one group, if one is given, without capabilities.
    Of(User, Option<u32>),
}

impl Rights {
    /// As options of setpriv(1), which drops the capabilities first, and arms the parent-death signal last: a change of
    /// user disarms it (PR_SET_PDEATHSIG in prctl(2)).
    fn options(self) -> Vec<String> {
        let none = ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"].map(str::to_string);
        match self {
            Rights::Ours => Vec::new(),
            Rights::NoCapabilities => none.to_vec(),
            Rights::Of(User { uid, gid }, group) => {
                let groups = group.map_or("--clear-groups".to_string(), |group| format!("--groups={group}"));
                let mut options = vec![format!("--reuid={uid}"), format!("--regid={gid}"), groups];
                options.extend(none);
                options
            }
        }
    }
}

/// What is to be started.
#[derive(Debug)]
pub(super) struct Program<'a> {
    pub part: Part,
    pub path: &'a Path,
    pub args: Vec<String>,
    /// It gets them under the numbers from [`FIRST_FD`] on, in this order.
    pub fds: Vec<OwnedFd>,
    pub rights: Rights,
    /// The processors it may use, as taskset(1) takes them.
    pub cpuset: Option<&'a str>,
    /// Whether its output is for [`Child::stdout`]; else it goes where its errors go.
    pub piped: bool,
    /// How long it may take to end by itself before it is killed, once we want its end.
    pub grace: Duration,
}

impl<'a> Program<'a> {
    /// One that may do what we may, without arguments and descriptors, that is killed at once when its time has come.
    pub(super) fn new(part: Part, path: &'a Path) -> Program<'a> {
        Program {
            part,
            path,
            args: Vec::new(),
            fds: Vec::new(),
            rights: Rights::Ours,
            cpuset: None,
            piped: false,
            grace: Duration::ZERO,
        }
    }
}

/// A program of ours; dropping it kills and reaps it.
#[derive(Debug)]
pub(super) struct Child {
    part: Part,
    process: tokio::process::Child,
    pid: u32,
    end: Arc<Pidfd>,
    tail: Tail,
    follower: JoinHandle<()>,
    grace: Duration,
    reap: Duration,
}

impl Child {
    /// Starts the program under setpriv(1), which arms the parent-death signal without `unsafe`: it is killed even if
    /// we are. One that we die before it is armed, within a millisecond or two, outlives us.
    pub(super) fn start(program: Program<'_>) -> Result<Child, VmError> {
        let (part, grace) = (program.part, program.grace);
        let failed = |source| VmError::Start { part, source };
        let (said, process) = spawn(program).map_err(failed)?;
        let pid = process.id().expect("it has not been waited for");
        let end = Arc::new(Pidfd::open(pid).map_err(failed)?);
        let tail = Tail::default();
        let follower = tokio::spawn(tail.clone().follow(part.name(), said));
        Ok(Child { part, process, pid, end, tail, follower, grace, reap: REAP })
    }

    /// The output, once, of a child that was started with `piped`.
    pub(super) fn stdout(&mut self) -> Option<ChildStdout> {
        self.process.stdout.take()
    }

    /// Its number, which stays its own until it is dropped or stopped.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// The end of what it has said, without the output that was piped.
    pub(super) fn said(&self) -> String {
        self.tail.text()
    }

    /// By which its end is seen.
    pub(super) fn end(&self) -> Arc<Pidfd> {
        Arc::clone(&self.end)
    }

    /// Waits for its end; then an error that quotes what it said.
    pub(super) async fn ended(mut self) -> VmError {
        self.end.ended().await;
        // An error means that something holds the pipe still; what came is quoted.
        let _ = timeout(LAST_WORDS, &mut self.follower).await;
        VmError::Ended { part: self.part, status: status(&self.end), log: self.tail.text() }
    }

    /// Ends it and reaps it; one that does not go within [`REAP`] behind its grace is left, and said to be.
    pub(super) async fn stop(mut self) {
        if timeout(self.grace, self.process.wait()).await.is_ok() {
            return;
        }
        if timeout(self.reap, self.process.kill()).await.is_err() {
            tracing::error!(part = self.part.name(), pid = self.pid, "killed, and still there");
            self.reap = Duration::ZERO;
        }
        self.grace = Duration::ZERO;
    }

    /// Blocks until it is gone, or for so long.
    fn gone_within(&mut self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        while matches!(self.process.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(1));
        }
        true
    }
}

impl Drop for Child {
    /// Blocks until the process is gone, a few milliseconds as a rule: its files may be removed next.
    fn drop(&mut self) {
        if !self.gone_within(self.grace) {
            // An error here means that it has been reaped already.
            let _ = self.process.start_kill();
            self.gone_within(self.reap);
        }
    }
}

fn spawn(program: Program<'_>) -> io::Result<(pipe::Receiver, tokio::process::Child)> {
    let (errors, said) = pipe::pipe()?;
    let errors = errors.into_blocking_fd()?;
    let mut command = Command::new("setpriv");
    command.args(program.rights.options()).args(["--pdeathsig=KILL", "--"]);
    if let Some(cpuset) = program.cpuset {
        command.args(["taskset", "--cpu-list", cpuset]);
    }
    let number = |index| i32::try_from(FIRST_FD + index).expect("nobody can have that many open");
    let fds = program.fds.into_iter().enumerate();
    let fds = fds.map(|(index, parent_fd)| FdMapping { parent_fd, child_fd: number(index) }).collect();
    command
        .arg(program.path)
        .args(program.args)
        // Ours is containerd's, with what its administrator put there; others of its user may read a program's.
        .env_clear()
        .envs(env::var_os("PATH").map(|path| ("PATH", path)))
        .stdin(Stdio::null())
        .stdout(if program.piped { Stdio::piped() } else { errors.try_clone()?.into() })
        .stderr(errors)
        .fd_mappings(fds)
        .map_err(io::Error::other)?
        .kill_on_drop(true);
    Ok((said, command.spawn()?))
}
