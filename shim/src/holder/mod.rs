//! The process that stands for the container on the host: it is in the container's network namespace, its root is the
//! container's root, and its pid is what Task.Create answers. Owns that process from its start to its reaping; never
//! says what its death means.

mod error;
mod filter;
mod hold;
mod order;

use std::ffi::OsString;
use std::future::Future;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use std::{io, process};

use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

pub use error::{HoldError, HolderError};
pub use hold::hold;
use order::Order;
pub use order::ACTION;

use crate::plan::Network;
use crate::sys::Pidfd;

/// The shim's own program, even after its file was replaced (proc(5), `/proc/pid/exe`).
pub const OWN_PROGRAM: &str = "/proc/self/exe";
/// What a holder writes when only its seccomp filter is left to do; an error's text comes instead, or behind it.
const READY: &str = "ready";
/// An error's text is one line with a path in it at the most.
const SAID_MAX: u64 = 8 << 10;
/// Some twenty system calls, in a few milliseconds; it is only longer on a machine that can hardly run anything.
const START: Duration = Duration::from_secs(10);
/// A killed process that waits for nothing is gone at once; below the 3 s that containerd gives a shutdown.
const REAP: Duration = Duration::from_secs(2);

/// What to hold.
#[derive(Debug, Clone)]
pub struct HolderSpec {
    /// The program with the action `hold`: [`OWN_PROGRAM`] in the shim.
    pub program: PathBuf,
    /// The container, for people who read `ps`.
    pub id: String,
    /// The namespace to make, to enter, or to stay in.
    pub network: Network,
    /// The folder that becomes the root, with all that is mounted below it; without one, an empty file system is.
    pub root: Option<PathBuf>,
}

/// A running holder; dropping it kills it.
#[derive(Debug)]
pub struct Holder {
    child: Child,
    pid: u32,
    end: Arc<Pidfd>,
}

impl Holder {
    /// Starts a holder and waits until it stands: `/proc/<pid>/ns/net` and `/proc/<pid>/root` are the container's then.
    ///
    /// It dies with the thread that calls this (`PR_SET_PDEATHSIG` of prctl(2)): the main thread has to.
    ///
    /// # Errors
    /// Any [`HolderError`]; there is no process then.
    pub async fn start(spec: HolderSpec) -> Result<Holder, HolderError> {
        let mut child = spawn(spec).map_err(HolderError::Start)?;
        let stdout = child.stdout.take().expect("it was asked for");
        match stand(&child, stdout).await {
            Ok((pid, end)) => Ok(Holder { child, pid, end: Arc::new(end) }),
            Err(error) => {
                reap(&mut child).await?;
                Err(error)
            }
        }
    }

    /// As the shim's pid namespace numbers it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for its death, by whomever. It stays a zombie, and its pid its own, until [`Holder::stop`].
    pub fn died(&self) -> impl Future<Output = ()> + Send + 'static {
        let end = Arc::clone(&self.end);
        async move { end.ended().await }
    }

    /// Kills and reaps it, dead already or not.
    ///
    /// # Errors
    /// `Timeout`, if it is still there after [`REAP`].
    pub async fn stop(mut self) -> Result<(), HolderError> {
        reap(&mut self.child).await
    }
}

fn spawn(spec: HolderSpec) -> io::Result<Child> {
    let order = Order { parent: process::id(), network: spec.network, root: spec.root };
    let mut name = OsString::from("vminit-hold ");
    name.push(spec.id);
    Command::new(spec.program)
        .arg0(name)
        .args(order.to_args())
        // `/proc/<pid>/environ` can be read for as long as it lives.
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
}

/// Reads until the holder has closed its last descriptor.
async fn stand(child: &Child, stdout: ChildStdout) -> Result<(u32, Pidfd), HolderError> {
    let pid = child.id().expect("it has not been waited for");
    let end = Pidfd::open(pid).map_err(HolderError::Start)?;
    let mut said = String::new();
    let mut stdout = stdout.take(SAID_MAX);
    let read = timeout(START, stdout.read_to_string(&mut said)).await;
    read.map_err(|_| HolderError::Timeout { what: "the holder ready", within: START })?
        .map_err(HolderError::Start)?;
    match said.as_str() {
        READY => Ok((pid, end)),
        "" => Err(HolderError::Ended("it ended without a word".to_owned())),
        error => Err(HolderError::Ended(error.trim_start_matches(READY).to_owned())),
    }
}

async fn reap(child: &mut Child) -> Result<(), HolderError> {
    let late = HolderError::Timeout { what: "the end of the holder", within: REAP };
    timeout(REAP, child.kill()).await.map_err(|_| late)?.map_err(HolderError::Stop)
}
