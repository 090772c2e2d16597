//! A daemon on the machine's real runc, and containers with busybox in them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use vminit_shim::client::{ClientError, Container, Exec, Finished, Guest, Stdio, INIT};
use vminit_shim::spec;

use crate::{binaries, poll_until, rootfs, Daemon, EventLog, LIMIT};

/// A daemon on the real runc, with a root file system that its containers share.
pub struct Machine {
    pub daemon: Daemon,
    pub guest: Guest,
    pub events: EventLog,
    pub root: PathBuf,
}

impl Machine {
    /// `None` where the real runc cannot be used.
    pub async fn start() -> Option<Self> {
        Some(Self::on(&binaries::real_runc()?).await)
    }

    /// The same on a runtime that becomes the real runc.
    pub async fn on(runtime: &Path) -> Self {
        let daemon = Daemon::with_runtime(runtime).await;
        let root = rootfs::busybox(daemon.dir());
        let (guest, events) = daemon.guest_and_events().await;
        Self { daemon, guest, events, root }
    }

    /// A `config.json`.
    pub fn config(&self, id: &str, args: &[&str]) -> Value {
        rootfs::config(&self.root, id, args)
    }

    /// Makes a bundle and a container without stdio in it.
    pub async fn create(&self, id: &str, args: &[&str]) -> Result<u32, ClientError> {
        self.create_with(id, &self.config(id, args), &Stdio::default()).await
    }

    /// The same, of this configuration and with this stdio.
    pub async fn create_with(&self, id: &str, config: &Value, stdio: &Stdio) -> Result<u32, ClientError> {
        self.guest.create(Container { id, config, rootfs: &[] }, stdio).await
    }

    /// A container that runs.
    pub async fn running(&self, id: &str, args: &[&str]) {
        self.create(id, args).await.expect("create");
        self.guest.start(id, INIT).await.expect("start");
    }

    /// The same, without a pid namespace of its own.
    pub async fn running_in_shared_pids(&self, id: &str, args: &[&str]) {
        let mut config = self.config(id, args);
        spec::share_pids(&mut config);
        self.create_with(id, &config, &Stdio::default()).await.expect("create");
        self.guest.start(id, INIT).await.expect("start");
    }

    /// A container that waits to be killed.
    pub async fn sleeping(&self, id: &str) {
        self.running(id, &["/bin/sleep", "1000"]).await;
    }

    /// Runs a container from its creation to its deletion.
    pub async fn run(&self, id: &str, args: &[&str]) -> Finished {
        self.run_with(id, &self.config(id, args)).await
    }

    /// The same, of this configuration.
    pub async fn run_with(&self, id: &str, config: &Value) -> Finished {
        self.guest.run(Container { id, config, rootfs: &[] }).await.expect("run")
    }

    /// Adds a process without stdio.
    pub async fn exec(&self, id: &str, exec_id: &str, args: &[&str]) -> Result<(), ClientError> {
        let process = spec::process(args);
        self.guest.exec(Exec { container_id: id, exec_id, process: &process }, &Stdio::default()).await
    }

    /// Kills and deletes a container.
    pub async fn end(&self, id: &str) {
        self.guest.kill(id, INIT, 9).await.expect("kill");
        self.guest.wait(id, INIT).await.expect("wait");
        self.guest.delete(id, INIT).await.expect("delete");
    }

    /// What containers wrote to `/tmp/<name>` of the root file system, once `done` says that it is all.
    pub async fn wrote(&self, name: &str, done: impl Fn(&str) -> bool) -> String {
        let path = self.root.join("tmp").join(name);
        let mut text = String::new();
        let look = || {
            text = fs::read_to_string(&path).unwrap_or_default();
            done(&text).then_some(()).ok_or_else(|| format!("there is {text:?}"))
        };
        poll_until(LIMIT, &format!("the container writes {name}"), look).await;
        text
    }
}
