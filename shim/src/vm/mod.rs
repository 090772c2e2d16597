//! One virtual machine: QEMU, the backends of its vsock device and of its shared folder, its console and its monitor,
//! launched together and gone together. Owns those processes; never speaks to the guest itself (`client` does).

mod args;
mod child;
mod config;
mod console;
mod end;
mod error;
mod files;
mod kvm;
mod nic;
mod qmp;
mod share;
mod tail;
mod vsock;

pub use config::{Accel, Disk, Share, User, VmConfig, Vsock};
pub use console::Milestone;
pub use end::{Ended, ExitReason, Part};
pub use error::VmError;

use std::fs::{self, DirBuilder};
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use crate::client::Endpoint;
use child::{Child, Program, Rights};
use console::Console;
use end::Watch;
use files::Files;
use qmp::Qmp;
use vsock::Far;

/// A program that has not made its socket by now never will.
const SOCKET: Duration = Duration::from_secs(10);
/// The pause between two looks at a socket that is to appear.
const LOOK: Duration = Duration::from_millis(5);
/// Between what a process closes as it ends and its end lies its memory, which is large.
const CLOSED_TO_END: Duration = Duration::from_secs(1);
/// Paths of Unix sockets have room for so many bytes and a zero (unix(7)).
const SOCKET_PATH_MAX: usize = 107;

const QEMU: &str = "qemu-system-x86_64";

/// A running machine. Dropping it kills it and waits until it is gone, for some milliseconds; so does a panic.
#[derive(Debug)]
pub struct Vm {
    // In the order in which they are to go: virtiofsd ends by itself behind QEMU.
    qemu: Child,
    virtiofsd: Option<Child>,
    backend: Option<Child>,
    qmp: Qmp,
    console: Console,
    config: VmConfig,
    /// The guest's address on the host's own vsock; none behind a backend.
    cid: Option<u32>,
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
    /// `Missing`, `Open`, `Unreadable`, `Dir` and `PathTooLong` before anything is started; `Start` and `Ended` for
    /// programs that do not run, `Qmp` and `Timeout` for those that do not serve.
    pub async fn launch(config: VmConfig) -> Result<Vm, VmError> {
        Vm::launch_telling(config, |_, _| ()).await
    }

    /// The same; `began` is told of each process and its pid as soon as it was started, so that who finds nothing but a
    /// note of it can end it. A launch that fails or is given up has ended them when it returns.
    ///
    /// # Errors
    /// As of [`Vm::launch`].
    pub async fn launch_telling(config: VmConfig, mut began: impl FnMut(Part, u32)) -> Result<Vm, VmError> {
        let files = Files::open(&config)?;
        make_dir(&config)?;
        let kvm = config.accel == Accel::Auto && kvm::usable(files.kernel()?, rights(&config, true)).await;
        let Far { backend, qemus: vsock, cid } = vsock::far(&config, &mut began).await?;
        let (virtiofsd, share) = match &config.share {
            Some(share) => Some(share::start(&config, share, &mut began).await?).unzip(),
            None => (None, None),
        };
        let (ours, qemus) = monitor().map_err(|source| VmError::Start { part: Part::Qemu, source })?;
        let program = Program {
            args: args::qemu(&config, kvm, cid),
            fds: files.in_order(qemus, vsock, share),
            rights: rights(&config, kvm),
            cpuset: config.cpuset.as_deref(),
            piped: config.console,
            ..Program::new(Part::Qemu, Path::new(QEMU))
        };
        let launch = Instant::now();
        let mut qemu = Child::start(program)?;
        began(Part::Qemu, qemu.pid());
        let console = match qemu.stdout() {
            Some(out) => Console::copy(out, config.console_log(), launch),
            None => Console::none(),
        };
        // A virtiofsd that does not run is what a QEMU with a share ends of.
        let besides = |error: VmError| match &virtiofsd {
            Some(virtiofsd) => error.quoting(Part::Virtiofsd, &virtiofsd.said()),
            None => error,
        };
        let (qemu, qmp) = greet(qemu, ours).await.map_err(besides)?;
        Ok(Vm { qemu, virtiofsd, backend, cid, generation: 0, qmp, console, config, kvm })
    }

    /// The guest's RPC port.
    pub fn rpc(&self) -> Endpoint {
        self.endpoint(self.config.ports.0)
    }

    /// The guest's stream port.
    pub fn stream(&self) -> Endpoint {
        self.endpoint(self.config.ports.1)
    }

    fn endpoint(&self, port: u32) -> Endpoint {
        match self.cid {
            Some(cid) => Endpoint::Vsock { cid, port },
            None => Endpoint::HybridVsock { uds: self.config.vsock_socket(), port },
        }
    }

    /// Where the console is written to, byte by byte; there is no such file without a console.
    pub fn console_log(&self) -> PathBuf {
        self.config.console_log()
    }

    /// Whether the machine runs under KVM; else it is emulated.
    pub fn has_kvm(&self) -> bool {
        self.kvm
    }

    /// QEMU's process id, its own until the machine is stopped or dropped.
    pub fn pid(&self) -> u32 {
        self.qemu.pid()
    }

    /// The end of what the console has shown, as much as fits an error; empty without a console.
    pub fn console_tail(&self) -> String {
        self.console.tail()
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
    /// vhost-device-vsock: then nobody ever answers on it. It says nothing of who listens. At once without such a
    /// backend.
    ///
    /// # Errors
    /// `Timeout`, or `Qmp` if QEMU is gone.
    pub async fn wait_vsock_driver(&self, within: Duration) -> Result<(), VmError> {
        if self.cid.is_some() {
            return Ok(());
        }
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

    /// Plugs in a network interface on port `index`, from 0 to below [`VmConfig::nic_ports`]. The guest sees it some
    /// 50 ms later. QEMU keeps the tap, which must have been opened with `IFF_VNET_HDR` for the guest to leave
    /// checksums to us.
    ///
    /// # Errors
    /// `Qmp`: QEMU refused, or is gone; nothing was plugged in then.
    pub async fn plug_tap(&self, index: u8, tap: OwnedFd, mac: &str, mtu: u32) -> Result<(), VmError> {
        nic::plug_tap(&self.qmp, index, tap, mac, mtu).await
    }

    /// The same, on QEMU's own network of user space, behind the network namespace that QEMU is in.
    ///
    /// # Errors
    /// As of [`Vm::plug_tap`].
    pub async fn plug_user(&self, index: u8, mac: &str) -> Result<(), VmError> {
        nic::plug_user(&self.qmp, index, mac).await
    }

    /// Takes the vsock device away, with its backend and all connections, and puts in another with a new backend behind
    /// the same endpoints. The machine must have been launched with a backend and `vsock_on_port`. To a future of [`Vm::ended`] from
    /// before, this is the machine's end.
    ///
    /// # Errors
    /// `Timeout` if the guest does not let go of the device, `Qmp` if QEMU refuses, and those of starting a backend.
    pub async fn replace_vsock(&mut self) -> Result<(), VmError> {
        vsock::unplug(&self.qmp, self.generation).await?;
        self.generation += 1;
        self.backend = None;
        let Far { backend, qemus, .. } = vsock::far(&self.config, &mut |_, _| ()).await?;
        self.backend = backend;
        vsock::plug(&self.qmp, qemus, self.generation).await
    }

    /// Waits for the machine's death: that of QEMU or of a backend, whichever comes first, within milliseconds. At once
    /// if it has come already. Any number may wait; who stops the machine tells no other.
    pub fn ended(&self) -> impl Future<Output = Ended> + Send + 'static {
        let end = |child: &Option<Child>| child.as_ref().map(Child::end);
        let (vsock, virtiofsd) = (end(&self.backend), end(&self.virtiofsd));
        Watch { qemu: self.qemu.end(), vsock, virtiofsd }.ended(self.qmp.ended())
    }

    /// Waits until QEMU has ended, and says why. Its backends do not matter.
    ///
    /// # Errors
    /// `Timeout`; the machine then still runs.
    pub async fn wait_exit(&mut self, within: Duration) -> Result<ExitReason, VmError> {
        let qemu = Watch { qemu: self.qemu.end(), vsock: None, virtiofsd: None };
        match timeout(within, qemu.ended(self.qmp.ended())).await {
            Ok(Ended::Qemu(reason)) => Ok(reason),
            _ => Err(VmError::Timeout { what: format!("the end of {}", Part::Qemu.name()), within }),
        }
    }

    /// Ends the machine, dead already or not; all its processes are gone and reaped when this returns, as a rule within
    /// some 30 ms. Each that is stuck in the kernel takes [`child::REAP`], and virtiofsd its [`share::GRACE`] before.
    pub async fn stop(self) {
        let Vm { qemu, virtiofsd, backend, .. } = self;
        qemu.stop().await;
        for child in [virtiofsd, backend].into_iter().flatten() {
            child.stop().await;
        }
    }
}

/// What QEMU may do. It needs its user's group of `/dev/kvm` for that only.
fn rights(config: &VmConfig, kvm: bool) -> Rights {
    match config.user {
        Some(user) => Rights::Of(user, kvm.then(kvm::group).flatten()),
        None => Rights::Ours,
    }
}

/// Makes the runtime folder.
fn make_dir(config: &VmConfig) -> Result<(), VmError> {
    let dir = &config.dir;
    let failed = |source| VmError::Dir { path: dir.clone(), source };
    if config.vsock_socket().as_os_str().len() > SOCKET_PATH_MAX {
        return Err(VmError::PathTooLong(dir.clone()));
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)
}

/// Removes a socket that an earlier machine or backend left: nobody takes over an existing path.
fn remove_stale(socket: &Path) -> Result<(), VmError> {
    match fs::remove_file(socket) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(VmError::Dir { path: socket.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Both ends of the monitor's connection: ours, and QEMU's.
fn monitor() -> io::Result<(UnixStream, OwnedFd)> {
    let (ours, qemus) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, qemus.into()))
}

/// Speaks with QEMU's monitor; a QEMU that ended instead is reported with what it said.
async fn greet(qemu: Child, stream: UnixStream) -> Result<(Child, Qmp), VmError> {
    let error = match Qmp::open(stream).await {
        Ok(qmp) => return Ok((qemu, qmp)),
        Err(error) => error,
    };
    // Its end of the connection is closed a moment before its end is seen.
    match timeout(CLOSED_TO_END, qemu.end().ended()).await {
        Ok(()) => Err(qemu.ended().await),
        Err(_) => Err(error),
    }
}

async fn look_again(deadline: Instant, what: &str) -> Result<(), VmError> {
    if Instant::now() >= deadline {
        return Err(VmError::Timeout { what: what.to_string(), within: SOCKET });
    }
    sleep(LOOK).await;
    Ok(())
}
