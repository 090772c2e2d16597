//! One virtual machine: QEMU, its vsock backend, its console and its monitor, launched together and gone together. Owns
//! those processes; never speaks to the guest itself (`client` does).

mod child;
mod config;
mod console;
mod error;
mod kvm;
mod qmp;

pub use config::{Accel, Disk, VmConfig};
pub use console::Milestone;
pub use error::VmError;

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::sleep;

use crate::client::Endpoint;
use child::Child;
use console::Console;
use qmp::Qmp;

/// The guest's ports, as it has them by default.
const RPC_PORT: u32 = 1024;
const STREAM_PORT: u32 = 1025;
/// Any guest may have this address: each has a backend of its own.
const GUEST_CID: u32 = 3;
/// A program that has not made its socket by now never will.
const SOCKET: Duration = Duration::from_secs(10);
/// The pause between two looks at a socket that is to appear.
const LOOK: Duration = Duration::from_millis(5);
/// Paths of Unix sockets have room for so many bytes and a zero (unix(7)).
const SOCKET_PATH_MAX: usize = 107;

/// Why a machine is no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitReason {
    /// The guest powered itself off.
    GuestShutdown,
    /// The guest rebooted, or its kernel panicked.
    GuestReset,
    /// The guest's kernel panicked and said so to its pvpanic device.
    GuestPanic,
    /// Another reason in QEMU's own words: the host ended it.
    Other(String),
    /// QEMU ended without a reason: it was killed, or it crashed.
    Unknown { status: String },
}

/// A running machine. Dropping it kills it and waits until it is gone, for some milliseconds; so does a panic.
#[derive(Debug)]
pub struct Vm {
    // In the order in which they are to go.
    qemu: Child,
    _backend: Child,
    qmp: Qmp,
    console: Console,
    config: VmConfig,
    kvm: bool,
}

impl Vm {
    /// Starts the machine; gives it as soon as QEMU runs, long before the guest serves.
    ///
    /// The machine dies with the thread that launched it (PR_SET_PDEATHSIG in prctl(2) is about threads), so that must
    /// not be one that ends earlier, as those of `spawn_blocking` do.
    ///
    /// # Errors
    /// `Missing`, `Dir` and `PathTooLong` before anything is started; `Start` and `Ended` for programs that do not run.
    pub async fn launch(config: VmConfig) -> Result<Vm, VmError> {
        check_files(&config)?;
        make_dir(&config)?;
        let backend = start_backend(&config).await?;
        let kvm = config.accel == Accel::Auto && kvm::usable(&config.kernel, &config.dir).await;
        let launch = Instant::now();
        let program = Path::new("qemu-system-x86_64");
        let mut qemu = Child::start("qemu", program, &config.qemu_args(kvm), &config.dir, config.console)?;
        let console = match qemu.stdout() {
            Some(out) => Console::copy(out, config.console_log(), launch),
            None => Console::none(),
        };
        let qmp = connect_qmp(&config.qmp_socket(), &mut qemu).await?;
        Ok(Vm { qemu, _backend: backend, qmp, console, config, kvm })
    }

    /// The guest's RPC port.
    pub fn rpc(&self) -> Endpoint {
        Endpoint::HybridVsock { uds: self.config.vsock_socket(), port: RPC_PORT }
    }

    /// The guest's stream port.
    pub fn stream(&self) -> Endpoint {
        Endpoint::HybridVsock { uds: self.config.vsock_socket(), port: STREAM_PORT }
    }

    /// Where the console is written to, byte by byte; there is no such file without a console.
    pub fn console_log(&self) -> PathBuf {
        self.config.console_log()
    }

    /// Whether the machine runs under KVM; else it is emulated.
    pub fn has_kvm(&self) -> bool {
        self.kvm
    }

    /// QEMU's process id; `None` once it has been waited for.
    pub fn pid(&self) -> Option<u32> {
        self.qemu.pid()
    }

    /// Waits until the boot has reached `phase`; at once if it has already.
    ///
    /// # Errors
    /// `Timeout`, or `NoConsole` if it can no longer come.
    pub async fn wait_milestone(&self, phase: &str, within: Duration) -> Result<Milestone, VmError> {
        self.console.wait(phase, within).await
    }

    /// Waits for the milestone number `index`, from 0; `None` once the console has ended without it.
    pub async fn milestone(&self, index: usize) -> Option<Milestone> {
        self.console.nth(index).await
    }

    /// Runs a command of the machine monitor, for example `system_powerdown`; gives what it returns.
    ///
    /// # Errors
    /// `Qmp`: QEMU refused, or is gone.
    pub async fn qmp(&self, command: &str, arguments: Value) -> Result<Value, VmError> {
        self.qmp.call(command, arguments).await
    }

    /// Waits until the machine has ended by itself, and says why.
    ///
    /// # Errors
    /// `Timeout`; the machine then still runs.
    pub async fn wait_exit(&mut self, within: Duration) -> Result<ExitReason, VmError> {
        let status = self.qemu.wait(within).await?;
        Ok(match self.qmp.ended().await.as_deref() {
            Some("guest-shutdown") => ExitReason::GuestShutdown,
            Some("guest-reset") => ExitReason::GuestReset,
            Some("guest-panic") => ExitReason::GuestPanic,
            Some(other) => ExitReason::Other(other.to_string()),
            None => ExitReason::Unknown { status: status.to_string() },
        })
    }

    /// Kills the machine; it is gone when this returns. The same as dropping it, said aloud.
    pub fn stop(self) {}
}

fn check_files(config: &VmConfig) -> Result<(), VmError> {
    let mut files = vec![
        ("kernel", &config.kernel),
        ("initrd", &config.initrd),
        ("vsock backend", &config.vsock_backend),
    ];
    files.extend(config.disks.iter().map(|disk| ("disk", &disk.path)));
    match files.into_iter().find(|(_, path)| !path.exists()) {
        Some((what, path)) => Err(VmError::Missing { what, path: path.clone() }),
        None => Ok(()),
    }
}

/// Makes the runtime folder, and clears it of sockets that an earlier machine left: QEMU and the backend do not take
/// over an existing path.
fn make_dir(config: &VmConfig) -> Result<(), VmError> {
    let dir = &config.dir;
    let failed = |source| VmError::Dir { path: dir.clone(), source };
    if config.vsock_socket().as_os_str().len() > SOCKET_PATH_MAX {
        return Err(VmError::PathTooLong(dir.clone()));
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    for socket in [config.vhost_socket(), config.vsock_socket(), config.qmp_socket()] {
        match fs::remove_file(socket) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
    }
    Ok(())
}

async fn start_backend(config: &VmConfig) -> Result<Child, VmError> {
    let (socket, uds) = (config.vhost_socket(), config.vsock_socket());
    let vm = format!("guest-cid={GUEST_CID},socket={},uds-path={}", socket.display(), uds.display());
    let mut backend = Child::start("vsock", &config.vsock_backend, &["--vm", &vm], &config.dir, false)?;
    let deadline = Instant::now() + SOCKET;
    // Not by connecting: the backend serves the first connection only, and that is QEMU's.
    while !listens(&socket) {
        backend.check()?;
        look_again(deadline, "the socket of the vsock backend").await?;
    }
    Ok(backend)
}

/// Whether somebody listens on the Unix socket, by the kernel's table; its fourth column has the flags, of which
/// 0x10000 is `__SO_ACCEPTCON` (proc(5), /proc/net/unix).
fn listens(socket: &Path) -> bool {
    let Some(path) = socket.to_str() else { return false };
    let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    table.lines().any(|line| line.ends_with(path) && line.split_whitespace().nth(3) == Some("00010000"))
}

async fn connect_qmp(socket: &Path, qemu: &mut Child) -> Result<Qmp, VmError> {
    let deadline = Instant::now() + SOCKET;
    loop {
        match Qmp::connect(socket).await {
            Ok(qmp) => return Ok(qmp),
            Err(_) => {
                qemu.check()?;
                look_again(deadline, "the monitor of QEMU").await?;
            }
        }
    }
}

async fn look_again(deadline: Instant, what: &str) -> Result<(), VmError> {
    if Instant::now() >= deadline {
        return Err(VmError::Timeout { what: what.to_string(), within: SOCKET });
    }
    sleep(LOOK).await;
    Ok(())
}
