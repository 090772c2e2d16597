//! The processes of one virtual machine. Owns starting them so that they cannot outlive us, and ending them for certain.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tokio::process::{ChildStdout, Command};
use tokio::time::timeout;

use super::VmError;

/// How long a killed process may take to go; it is only longer if the machine is stuck in the kernel.
const REAP: Duration = Duration::from_secs(5);
/// How much of a log is quoted in an error.
const LOG_TAIL: usize = 2000;

/// A program of ours; dropping it kills and reaps it.
#[derive(Debug)]
pub(super) struct Child {
    name: &'static str,
    process: tokio::process::Child,
    log: PathBuf,
}

impl Child {
    /// Starts `program` with its errors (and its output, unless `piped`) written to `<name>.log` in `dir`.
    ///
    /// It runs under `setpriv`, which arms the parent-death signal without `unsafe`: it is killed even if we are.
    pub(super) fn start<A: AsRef<OsStr>>(
        name: &'static str,
        program: &Path,
        args: &[A],
        dir: &Path,
        piped: bool,
    ) -> Result<Child, VmError> {
        let log = dir.join(format!("{name}.log"));
        let open = || File::create(&log).map_err(|source| VmError::Dir { path: log.clone(), source });
        let file = open()?;
        let both = file.try_clone().map_err(|source| VmError::Dir { path: log.clone(), source })?;
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(if piped { Stdio::piped() } else { both.into() })
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| VmError::Start { program: "setpriv".to_string(), source })?;
        Ok(Child { name, process, log })
    }

    /// The output, once, of a child that was started with `piped`.
    pub(super) fn stdout(&mut self) -> Option<ChildStdout> {
        self.process.stdout.take()
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// An error that quotes the log if the child has ended; nothing while it runs.
    pub(super) fn check(&mut self) -> Result<(), VmError> {
        match self.process.try_wait() {
            Ok(Some(status)) => Err(self.ended(status)),
            _ => Ok(()),
        }
    }

    /// Waits for the end of the child.
    pub(super) async fn wait(&mut self, within: Duration) -> Result<ExitStatus, VmError> {
        match timeout(within, self.process.wait()).await {
            Ok(Ok(status)) => Ok(status),
            _ => Err(VmError::Timeout { what: format!("the end of {}", self.name), within }),
        }
    }

    fn ended(&self, status: ExitStatus) -> VmError {
        let log = fs::read(&self.log).unwrap_or_default();
        let tail = String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_TAIL)..]).trim().to_string();
        VmError::Ended { program: self.name, status: status.to_string(), log: tail }
    }
}

impl Drop for Child {
    /// Blocks until the process is gone, a few milliseconds as a rule: its files may be removed next.
    fn drop(&mut self) {
        let deadline = Instant::now() + REAP;
        // An error here means that it has been reaped already.
        let _ = self.process.start_kill();
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }
}
