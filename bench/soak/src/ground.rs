//! What all workers share: the daemon, one connection to it as a host has, the root file system of the containers, and
//! the ledger. Owns the steps that every kind of load is made of; none of them forgives a wrong answer.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use vminit_shim::client::{Container, Exec, Guest, Stdio, INIT};
use vminit_shim::spec;
use vminitd_test_support::chance::noise;
use vminitd_test_support::{binaries, rootfs, Daemon};

use crate::fault::Fault;
use crate::ledger::Ledger;
use crate::sum::Sum;

/// Payloads are from so much to so much.
pub const PAYLOAD_BYTES: (usize, usize) = (32 << 10, 32 << 20);

/// In the containers: as much noise as the largest payload.
pub const NOISE_FILE: &str = "/noise";

/// SIGTERM and SIGKILL (signal(7)).
pub const TERM: u32 = 15;
pub const KILL: u32 = 9;

/// The status of what SIGKILL has ended: 128 + its number.
pub const KILLED: u32 = 128 + KILL;

pub struct Ground {
    pub daemon: Daemon,
    pub guest: Guest,
    pub root: PathBuf,
    noise: Vec<u8>,
    ledger: Mutex<Ledger>,
}

impl Ground {
    /// Starts the daemon; `None`, with the reason on stderr, where the real runc cannot be used.
    pub async fn prepare() -> Option<Self> {
        let runc = binaries::real_runc()?;
        // Its log at level debug would be a gigabyte in an hour.
        let daemon = Daemon::with_flags(&runc, &["-debug=false"]).await;
        let root = rootfs::busybox(daemon.dir());
        let noise = noise(PAYLOAD_BYTES.1);
        fs::write(root.join(NOISE_FILE.trim_start_matches('/')), &noise).expect("write the noise");
        let guest = daemon.guest().await;
        Some(Self { daemon, guest, root, noise, ledger: Mutex::default() })
    }

    /// What the first so many bytes of the noise amount to.
    pub fn noise_sum(&self, bytes: usize) -> Sum {
        Sum::of(&self.noise[..bytes])
    }

    /// Takes what is owed, at the end of a leg.
    pub fn take_ledger(&self) -> Ledger {
        std::mem::take(&mut *self.ledger())
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // A worker that panicked has failed the run by that.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn config(&self, id: &str, args: &[&str]) -> Value {
        rootfs::config(&self.root, id, args)
    }

    pub async fn create(&self, id: &str, args: &[&str], stdio: &Stdio) -> Result<(), Fault> {
        let config = self.config(id, args);
        let container = Container { id, config: &config, rootfs: &[] };
        self.guest.create(container, stdio).await.map(drop).map_err(Fault::call(id))
    }

    /// Starts a process that will end with this status.
    pub async fn start(&self, id: &str, exec_id: &str, status: u32) -> Result<(), Fault> {
        self.guest.start(id, exec_id).await.map_err(Fault::call(&who(id, exec_id)))?;
        self.owe(id, exec_id, status);
        Ok(())
    }

    /// A process that its worker knows to run will end with this status.
    pub fn owe(&self, id: &str, exec_id: &str, status: u32) {
        self.ledger().owe(id, exec_id, status);
    }

    /// A container that waits to be killed.
    pub async fn sleeper(&self, id: &str) -> Result<(), Fault> {
        self.create(id, &["/bin/sleep", "100000"], &Stdio::default()).await?;
        self.start(id, INIT, KILLED).await
    }

    /// Kills such a container and deletes it.
    pub async fn end_sleeper(&self, id: &str) -> Result<(), Fault> {
        self.kill(id, INIT, KILL).await?;
        self.reap(id, INIT, KILLED).await
    }

    pub async fn add(&self, id: &str, exec_id: &str, args: &[&str], stdio: &Stdio) -> Result<(), Fault> {
        let process = spec::process(args);
        let exec = Exec { container_id: id, exec_id, process: &process };
        self.guest.exec(exec, stdio).await.map_err(Fault::call(&who(id, exec_id)))
    }

    pub async fn stdio(&self, id: &str, with_stdin: bool) -> Result<Stdio, Fault> {
        self.guest.stdio(with_stdin).await.map_err(Fault::call(id))
    }

    pub async fn kill(&self, id: &str, exec_id: &str, signal: u32) -> Result<(), Fault> {
        self.guest.kill(id, exec_id, signal).await.map_err(Fault::call(&who(id, exec_id)))
    }

    /// Waits for the end of a process, which must be this one, and deletes it.
    pub async fn reap(&self, id: &str, exec_id: &str, status: u32) -> Result<(), Fault> {
        self.wait(id, exec_id, status).await?;
        let who = who(id, exec_id);
        let deleted = self.guest.delete(id, exec_id).await.map_err(Fault::call(&who))?;
        is_status(who, status, deleted.status)
    }

    /// Waits for the end of a process, which must be this one.
    pub async fn wait(&self, id: &str, exec_id: &str, status: u32) -> Result<(), Fault> {
        let who = who(id, exec_id);
        let ended = self.guest.wait(id, exec_id).await.map_err(Fault::call(&who))?;
        is_status(who, status, ended.status)
    }
}

/// The name of a process in a complaint.
pub fn who(id: &str, exec_id: &str) -> String {
    if exec_id == INIT {
        id.to_owned()
    } else {
        format!("{id}/{exec_id}")
    }
}

fn is_status(who: String, expected: u32, found: u32) -> Result<(), Fault> {
    if found == expected {
        Ok(())
    } else {
        Err(Fault::Status { who, expected, found })
    }
}

/// Compares what came with what should have come; gives how many bytes it was, for the totals.
pub fn is_payload(who: &str, what: &'static str, expected: Sum, found: Sum) -> Result<u64, Fault> {
    if found == expected {
        Ok(found.bytes as u64)
    } else {
        Err(Fault::Payload { who: who.into(), what, expected, found })
    }
}
