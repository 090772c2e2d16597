//! A container that sees the whole guest, for a test that looks at the kernel's side of another container, or changes
//! the machine under it. Owns that container and the names of its execs.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use vminit_shim::api::containerd::api::WaitRequest;
use vminit_shim::client::{context, Exec};
use vminit_shim::spec;

use crate::machine::Machine;

/// Its id.
pub const OBSERVER: &str = "observer";

/// How long a script may take: some start a hundred runcs at once, in an emulated machine that may not be alone.
const SCRIPT: Duration = Duration::from_secs(600);

/// A running container with the guest's processes, its cgroups at `/sys/fs/cgroup`, and every capability.
pub struct Observer<'a> {
    machine: &'a Machine,
    pid: u32,
    scripts: AtomicU32,
}

impl<'a> Observer<'a> {
    pub async fn start(machine: &'a Machine) -> Self {
        let mut config = spec::container(&["/bin/sleep", "100000"]);
        spec::share_pids(&mut config);
        spec::grant_all_capabilities(&mut config);
        spec::bind(&mut config, "/sys/fs/cgroup", "/sys/fs/cgroup");
        let pid = machine.start(OBSERVER, &config).await;
        Self { machine, pid, scripts: AtomicU32::new(0) }
    }

    /// Runs a shell script and gives what it printed; it must succeed.
    pub async fn run(&self, script: &str) -> String {
        self.exec(&["/bin/sh", "-ec", script]).await
    }

    /// The same beside PID 1: in its mount namespace, where the OCI runtime is and no shell.
    pub async fn run_beside_pid_1(&self, script: &str) -> String {
        let busybox = format!("/proc/{}/root/bin/busybox", self.pid);
        self.exec(&["/bin/nsenter", "-t", "1", "-m", &busybox, "sh", "-ec", script]).await
    }

    async fn exec(&self, args: &[&str]) -> String {
        let mut process = spec::process(args);
        spec::grant_all_capabilities_to(&mut process);
        let exec_id = format!("script-{}", self.scripts.fetch_add(1, Ordering::Relaxed));
        let exec = Exec { container_id: OBSERVER, exec_id: &exec_id, process: &process };
        let guest = &self.machine.guest;
        let stdio = guest.stdio(false).await.expect("streams");
        guest.exec(exec, &stdio).await.expect("exec");
        let output = stdio.collect();
        guest.start(OBSERVER, &exec_id).await.expect("start a script");
        let status = self.wait(&exec_id).await;
        guest.delete(OBSERVER, &exec_id).await.expect("delete");
        let (stdout, stderr) = output.finish().await.expect("output");
        let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert_eq!(status, 0, "{args:?} printed {stdout:?} and {stderr:?}");
        stdout.trim().to_owned()
    }

    async fn wait(&self, exec_id: &str) -> u32 {
        let request = WaitRequest { id: OBSERVER.into(), exec_id: exec_id.into(), ..Default::default() };
        let context = context(SCRIPT, "default");
        self.machine.guest.client.task().wait(context, &request).await.expect("wait for a script").exit_status
    }

    /// Ends the container.
    pub async fn stop(self) {
        self.machine.remove(OBSERVER).await;
    }
}
