//! Where is measured: a daemon that runs as an ordinary process with Unix sockets, or as PID 1 of a microVM over vsock.
//! Owns both, and the one container in which every peer runs; measures nothing.
//!
//! In a microVM that container sees the machine's processes and may do everything, so that a peer can look at PID 1, or
//! run where PID 1 runs its runcs.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use vminit_shim::api::containerd::api::Mount;
use vminit_shim::client::{Container, Endpoint, Exec, Guest, Stdio, INIT};
use vminit_shim::spec;
use vminit_shim::vm::{Disk, Vm, VmConfig};
use vminitd_test_support::Daemon;

use crate::error::BenchError;

/// The container of the peers.
pub const CONTAINER: &str = "bench";

/// The peer, in `build/` and in the microVM's container.
const PEER: &str = "vminitd-bench-peer";

/// Of a microVM, where nothing needs more.
pub const MEMORY_MB: u32 = 512;

/// An emulated boot takes 1.5 s on a machine that has nothing else to do.
const BOOT: Duration = Duration::from_secs(60);

/// The port of the first raw connection in a microVM; any that the daemon does not listen on.
const FIRST_PORT: u32 = 5000;

/// A daemon, a container, and a way to reach processes in it past the daemon.
pub struct Stage {
    pub transport: &'static str,
    pub guest: Guest,
    /// The pid of the container's init, as the daemon sees it.
    init: u32,
    /// The peer, where the container has it.
    peer: String,
    raw: Raw,
    count: AtomicU32,
    _machine: Machine,
}

/// Where a peer can listen by itself.
enum Raw {
    /// A socket in this folder.
    Unix(PathBuf),
    /// A vsock port behind this socket.
    Vsock(PathBuf),
}

/// What ends with the stage.
enum Machine {
    Process { _daemon: Daemon },
    // The machine before the folder in which its sockets are.
    Vm { _vm: Box<Vm>, _dir: TempDir },
}

/// An address on which one peer listens.
pub struct Address {
    /// For the peer's command line.
    pub words: [String; 2],
    /// For the host.
    pub endpoint: Endpoint,
}

impl Stage {
    /// The daemon as an ordinary process, on the scripted runc; Unix sockets.
    pub async fn unix(build: &Path) -> Result<Stage, BenchError> {
        let daemon = Daemon::with_fake_runc().await;
        let guest = daemon.guest().await;
        let peer = build.join(PEER);
        let peer = peer.canonicalize().map_err(|source| BenchError::File { path: peer, source })?;
        let mut stage = Stage {
            transport: "unix",
            guest,
            init: 0,
            peer: peer.display().to_string(),
            raw: Raw::Unix(daemon.dir().to_owned()),
            count: AtomicU32::new(0),
            _machine: Machine::Process { _daemon: daemon },
        };
        stage.start(&spec::container(&["forever"]), &[]).await?;
        Ok(stage)
    }

    /// The daemon as PID 1 of a microVM with the real runc; vsock.
    pub async fn vsock(build: &Path) -> Result<Stage, BenchError> {
        Stage::vsock_with_memory(build, MEMORY_MB).await
    }

    /// The same in a microVM with this much memory.
    pub async fn vsock_with_memory(build: &Path, memory_mb: u32) -> Result<Stage, BenchError> {
        let Booted { guest, vm, dir } = boot(build, memory_mb).await?;
        let Endpoint::HybridVsock { uds, .. } = vm.rpc() else { unreachable!("a microVM has no other") };
        let mut stage = Stage {
            transport: "vsock",
            guest,
            init: 0,
            peer: format!("/bin/{PEER}"),
            raw: Raw::Vsock(uds),
            count: AtomicU32::new(0),
            _machine: Machine::Vm { _vm: vm, _dir: dir },
        };
        let mut config = spec::container(&["/bin/sleep", "100000"]);
        spec::share_pids(&mut config);
        spec::grant_all_capabilities(&mut config);
        stage.start(&config, &[root_disk()]).await?;
        stage.bring_peer(build).await?;
        Ok(stage)
    }

    async fn start(&mut self, config: &Value, rootfs: &[Mount]) -> Result<(), BenchError> {
        let container = Container { id: CONTAINER, config, rootfs };
        self.init = self.guest.create(container, &Stdio::default()).await?;
        self.guest.start(CONTAINER, INIT).await?;
        Ok(())
    }

    /// Copies the peer to the container's disk, through the stdin of a process there.
    async fn bring_peer(&self, build: &Path) -> Result<(), BenchError> {
        let program = std::fs::read(build.join(PEER)).map_err(BenchError::io("read the peer"))?;
        let script = format!("head -c {} > {1} && chmod 755 {1}", program.len(), self.peer);
        let mut process = self.run(&["/bin/sh", "-c", &script]).await?;
        let stdin = process.stdio.stdin.as_mut().map(|stream| &mut stream.socket);
        let stdin = stdin.expect("every process has one");
        stdin.write_all(&program).await.map_err(BenchError::io("write the peer"))?;
        process.end().await
    }

    /// Starts a peer with these arguments.
    pub async fn run_peer(&self, arguments: &[&str]) -> Result<Process<'_>, BenchError> {
        self.run(&[&[self.peer.as_str()], arguments].concat()).await
    }

    /// Runs a peer to its end beside PID 1 of a microVM: in its mount namespace, where the OCI runtime is. Gives what it
    /// printed.
    pub async fn peer_beside_pid_1_says(&self, arguments: &[&str]) -> Result<String, BenchError> {
        let peer = format!("/proc/{}/root{}", self.init, self.peer);
        let entering = ["/bin/nsenter", "-t", "1", "-m", peer.as_str()];
        self.run(&[&entering, arguments].concat()).await?.says().await
    }

    async fn run(&self, args: &[&str]) -> Result<Process<'_>, BenchError> {
        let exec_id = format!("e{}", self.count.fetch_add(1, Ordering::Relaxed));
        let stdio = self.guest.stdio(true).await?;
        let mut process = spec::process(args);
        spec::grant_all_capabilities_to(&mut process);
        let exec = Exec { container_id: CONTAINER, exec_id: &exec_id, process: &process };
        self.guest.exec(exec, &stdio).await?;
        self.guest.start(CONTAINER, &exec_id).await?;
        Ok(Process { guest: &self.guest, args: args.join(" "), exec_id, stdio })
    }

    /// An address that no peer had yet.
    pub fn address(&self) -> Address {
        let n = self.count.fetch_add(1, Ordering::Relaxed);
        match &self.raw {
            Raw::Unix(folder) => {
                let path = folder.join(format!("raw{n}"));
                Address { words: ["unix".into(), path.display().to_string()], endpoint: Endpoint::Unix(path) }
            }
            Raw::Vsock(uds) => {
                let port = FIRST_PORT + n;
                let endpoint = Endpoint::HybridVsock { uds: uds.clone(), port };
                Address { words: ["vsock".into(), port.to_string()], endpoint }
            }
        }
    }
}

/// A microVM that serves, before it has any container.
pub struct Booted {
    pub guest: Guest,
    // The machine before the folder in which its sockets are.
    vm: Box<Vm>,
    dir: TempDir,
}

/// Boots the image, with the disk of [`root_disk`].
pub async fn boot(build: &Path, memory_mb: u32) -> Result<Booted, BenchError> {
    // Socket paths have room for 107 bytes (unix(7)), so the folder's name is short.
    let dir = tempfile::Builder::new().prefix("vmb").tempdir();
    let dir = dir.map_err(BenchError::io("make a folder for the microVM"))?;
    let disk = dir.path().join("rootfs.ext4");
    std::fs::copy(build.join("rootfs.ext4"), &disk).map_err(BenchError::io("copy the disk"))?;
    let mut config = VmConfig::new(build, dir.path().join("vm"));
    config.memory_mb = memory_mb;
    config.disks.push(Disk { path: disk, serial: "rootfs".into(), read_only: false });
    let vm = Box::new(Vm::launch(config).await?);
    vm.wait_milestone("serve", BOOT).await?;
    let guest = Guest::connect(vm.rpc(), vm.stream(), BOOT).await?;
    Ok(Booted { guest, vm, dir })
}

/// The microVM's disk with busybox, as the root of a container.
pub fn root_disk() -> Mount {
    Mount { type_: "ext4".into(), source: "serial:rootfs".into(), ..Default::default() }
}

/// A running process of the container, with its stdio.
pub struct Process<'a> {
    guest: &'a Guest,
    args: String,
    pub exec_id: String,
    pub stdio: Stdio,
}

impl Process<'_> {
    /// Closes its stdin and reads what it prints, until it has ended as it should, and deletes it.
    pub async fn says(mut self) -> Result<String, BenchError> {
        let output = std::mem::take(&mut self.stdio).collect();
        self.end().await?;
        let (stdout, _) = output.finish().await.map_err(BenchError::io("read what a peer prints"))?;
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }

    /// Waits until it has ended, as it should, and deletes it.
    ///
    /// # Errors
    /// `Ended` if it ended otherwise; it is deleted then as well.
    pub async fn end(self) -> Result<(), BenchError> {
        let status = self.guest.wait(CONTAINER, &self.exec_id).await?.status;
        self.guest.delete(CONTAINER, &self.exec_id).await?;
        if status == 0 {
            Ok(())
        } else {
            Err(BenchError::Ended { args: self.args, status })
        }
    }
}
