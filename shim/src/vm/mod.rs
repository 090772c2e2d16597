//! One virtual machine: QEMU, its vsock backend, its console and its monitor, launched together and gone together. Owns
//! those processes; never speaks to the guest itself (`client` does).

mod child;
mod config;
mod console;
mod error;
mod kvm;
mod qmp;
mod vsock;

pub use config::{Accel, Disk, VmConfig};
pub use console::Milestone;
pub use error::VmError;

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::client::Endpoint;
use child::Child;
use console::Console;
use qmp::Qmp;

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
    backend: Option<Child>,
    qmp: Qmp,
    console: Console,
    config: VmConfig,
    /// How many backends of the vsock device there were before this one.
    generation: u32,
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
        let backend = vsock::start_backend(&config, 0).await?;
        let kvm = config.accel == Accel::Auto && kvm::usable(&config.kernel, &config.dir).await;
        let launch = Instant::now();
        let program = Path::new("qemu-system-x86_64");
        let mut qemu = Child::start("qemu", program, &config.qemu_args(kvm), &config.dir, config.console)?;
        let console = match qemu.stdout() {
            Some(out) => Console::copy(out, config.console_log(), launch),
            None => Console::none(),
        };
        let qmp = connect_qmp(&config.qmp_socket(), &mut qemu).await?;
        Ok(Vm { qemu, backend: Some(backend), generation: 0, qmp, console, config, kvm })
    }

    /// The guest's RPC port.
    pub fn rpc(&self) -> Endpoint {
        Endpoint::HybridVsock { uds: self.config.vsock_socket(), port: self.config.ports.0 }
    }

    /// The guest's stream port.
    pub fn stream(&self) -> Endpoint {
        Endpoint::HybridVsock { uds: self.config.vsock_socket(), port: self.config.ports.1 }
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

    /// Waits until the guest's driver has taken the vsock device. A connection that comes while it does may be lost by
    /// vhost-device-vsock: then nobody ever answers on it. It says nothing of who listens.
    ///
    /// # Errors
    /// `Timeout`, or `Qmp` if QEMU is gone.
    pub async fn wait_vsock_driver(&self, within: Duration) -> Result<(), VmError> {
        timeout(within, vsock::driver_is_ready(&self.qmp)).await.unwrap_or_else(|_| {
            Err(VmError::Timeout { what: "the guest's vsock driver".to_string(), within })
        })
    }

    /// Waits until QEMU has told of the end of a device that `device_del` was asked for.
    ///
    /// # Errors
    /// `Timeout`: the guest does not let go of it, or QEMU is gone.
    pub async fn wait_unplugged(&self, device: &str, within: Duration) -> Result<(), VmError> {
        let wanted = |event: &Value| event["event"] == "DEVICE_DELETED" && event["data"]["device"] == device;
        match timeout(within, self.qmp.event(wanted)).await {
            Ok(Some(_)) => Ok(()),
            _ => Err(VmError::Timeout { what: format!("the end of device {device}"), within }),
        }
    }

    /// Takes the vsock device away, with its backend and all connections, and puts in another with a new backend behind
    /// the same endpoints. The machine must have been launched with `vsock_on_port`.
    ///
    /// # Errors
    /// `Timeout` if the guest does not let go of the device, `Qmp` if QEMU refuses, and those of starting a backend.
    pub async fn replace_vsock(&mut self) -> Result<(), VmError> {
        vsock::unplug(&self.qmp, self.generation).await?;
        self.generation += 1;
        self.backend = None;
        self.backend = Some(vsock::start_backend(&self.config, self.generation).await?);
        vsock::plug(&self.qmp, &self.config, self.generation).await
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

/// Makes the runtime folder.
fn make_dir(config: &VmConfig) -> Result<(), VmError> {
    let dir = &config.dir;
    let failed = |source| VmError::Dir { path: dir.clone(), source };
    if config.vsock_socket().as_os_str().len() > SOCKET_PATH_MAX {
        return Err(VmError::PathTooLong(dir.clone()));
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    remove_stale(&config.qmp_socket())
}

/// Removes a socket that an earlier machine or backend left: QEMU and the backend do not take over an existing path.
fn remove_stale(socket: &Path) -> Result<(), VmError> {
    match fs::remove_file(socket) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(VmError::Dir { path: socket.to_owned(), source })
        }
        _ => Ok(()),
    }
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
