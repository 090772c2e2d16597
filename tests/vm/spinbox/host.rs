//! The machine as that host launches it, and its way to dial it: a ping on every connection before anything else.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{RwLock, SemaphorePermit};
use tokio::time::{sleep, timeout, Instant};
use vminit_shim::client::{Endpoint, Guest, Stdio, Stream, Streams};
use vminit_shim::vm::{Disk, Vm, VmConfig};

use crate::machine::{console, folder_with, room, BOOT};

/// What `deploy/spinbox/image.sh` makes: the initrd of that host, and behind it the modules that the tests' kernel has
/// not built in.
const IMAGE: &str = "spinbox-initrd-modules";

/// The kernel's arguments, in that host's order, and those of PID 1. `tsc=reliable` is left out: a processor that is
/// emulated on a busy machine is sometimes calibrated wrongly, and a kernel that is told to trust it never finds out. The
/// guest's clock was seen at more than three times its speed.
const COMMAND_LINE: &str =
    "console=ttyS0 quiet loglevel=3 systemd.show_status=0 systemd.log_level=warning panic=1 \
    net.ifnames=0 biosdevname=0 systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all nohz=off no_timer_check \
    rcupdate.rcu_expedited=1 pci=lastbus=0 ip=10.0.2.15::10.0.2.2:255.255.255.0::eth0:none:10.0.2.3 \
    init=/sbin/vminitd -- -vsock-rpc-port=1025 -vsock-stream-port=1026 -vsock-cid=3";

/// What that host does not say: the tests' vsock backend is not its own. The profile is in the image.
const BEYOND: &str = "-stream-close=eof";

/// The address in the command line is one of QEMU's user network, which is kept from the world.
const NETWORK: [&str; 4] =
    ["-netdev", "user,id=net0,restrict=on", "-device", "virtio-net-pci,netdev=net0,romfile="];

const PORTS: (u32, u32) = (1025, 1026);

/// Between two dials while the guest is not up: doubled from the first to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(20));

/// The first ping may take so long, and so much more for each that failed.
const FIRST_PING: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(10));

/// A number that the host's counter does not reach.
const NOBODYS_STREAM: u32 = u32::MAX;

/// A dial may take so long.
const DIAL: Duration = Duration::from_secs(2);

/// A ping of a guest that is up; that host grants 200 ms, on a machine that is not emulated.
pub const PING: Duration = Duration::from_secs(2);

/// What answers a ping: type 2, no flags, stream id 0, and a status.
const PONG: &str = "StreamID must be odd for client initiated streams";

/// The machine, and the host's counter of streams.
pub struct Host {
    // Before the folder in which its sockets are.
    pub vm: Vm,
    streams: Streams,
    last_stream: AtomicU32,
    /// Whoever asks again and again reads it for as long as it awaits an answer. To write is to keep them quiet.
    pub quiet: Arc<RwLock<()>>,
    _dir: TempDir,
    _room: SemaphorePermit<'static>,
}

impl Host {
    /// Launches the machine; `None`, and a word about it, where there is no image.
    pub async fn launch() -> Option<Host> {
        let build = folder_with(IMAGE, "image:spinbox")?;
        let dir = tempfile::Builder::new().prefix("sbx").tempdir().expect("make a folder");
        let mut config = VmConfig::new(&build, dir.path().join("vm"));
        config.initrd = build.join(IMAGE);
        config.ports = PORTS;
        for (index, read_only) in [true, false].into_iter().enumerate() {
            let path = dir.path().join(format!("layer{index}"));
            fs::copy(build.join("rootfs.ext4"), &path).expect("copy a disk");
            config.disks.push(Disk { path, serial: format!("sbxblk{index}"), read_only });
        }
        config.qemu_extra = NETWORK.map(str::to_owned).to_vec();
        // QEMU heeds the last of them, and the launcher's own has another order.
        config.qemu_extra.extend(["-append".to_owned(), format!("{COMMAND_LINE} {BEYOND}")]);
        let room = room(config.cpus).await;
        let vm = Vm::launch(config).await.expect("launch the machine");
        // The kernel's own vsock of that host keeps a connection that comes earlier; the backend here can be lost to it.
        // The guest has its driver by then, and does not serve yet.
        vm.wait_milestone("system-init", BOOT).await.expect("the guest boots");
        let streams = Streams { endpoint: vm.stream() };
        let (last_stream, quiet) = Default::default();
        Some(Host { vm, streams, last_stream, quiet, _dir: dir, _room: room })
    }

    /// Boot: dials and pings until the guest answers, then pings once more. The connection becomes C1. By then the stream
    /// port is served.
    pub async fn ready(&self) -> UnixStream {
        let deadline = Instant::now() + BOOT;
        let (mut pause, mut patience) = (PAUSES.0, FIRST_PING.0);
        loop {
            match self.try_once(patience).await {
                Ok(mut connection) => {
                    let stream = self.streams.open(NOBODYS_STREAM).await;
                    stream.expect("the stream port is served before the RPC port answers");
                    ping(&mut connection).await.expect("the second ping is answered");
                    return connection;
                }
                Err(error) => {
                    assert!(Instant::now() < deadline, "{error}; the console:\n{}", console(&self.vm))
                }
            }
            patience += FIRST_PING.1;
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    async fn try_once(&self, patience: Duration) -> io::Result<UnixStream> {
        let rpc = self.vm.rpc();
        // A task of its own: given up, it is not dropped. The backend does not survive a connection that is closed
        // before it was answered.
        let dial = tokio::spawn(async move { rpc.connect().await });
        let mut connection = timeout(DIAL, dial).await?.expect("dialling does not panic")?;
        timeout(patience, ping(&mut connection)).await??;
        Ok(connection)
    }

    /// Another connection, as C2 and C3 are: dialled and pinged once.
    pub async fn client(&self) -> Guest {
        Guest::connect(self.vm.rpc(), self.vm.stream(), PING).await.expect("connect")
    }

    /// Opens streams for a process, in the order stdin, stdout, stderr, under the next numbers.
    pub async fn stdio(&self, wanted: [bool; 3]) -> Stdio {
        let [stdin, stdout, stderr] = wanted;
        Stdio {
            stdin: self.stream(stdin).await,
            stdout: self.stream(stdout).await,
            stderr: self.stream(stderr).await,
        }
    }

    async fn stream(&self, wanted: bool) -> Option<Stream> {
        if !wanted {
            return None;
        }
        let id = self.last_stream.fetch_add(1, Ordering::Relaxed) + 1;
        let socket = self.streams.open(id).await.expect("open a stream");
        Some(Stream { uri: Streams::uri(id), socket })
    }
}

/// Dials, pings and closes, as the monitor does.
pub async fn dial_and_ping(rpc: &Endpoint) -> io::Result<()> {
    let mut connection = rpc.connect().await?;
    timeout(PING, ping(&mut connection)).await?
}

/// Ten zeros; every byte of the answer is looked at.
async fn ping(connection: &mut UnixStream) -> io::Result<()> {
    connection.write_all(&[0; 10]).await?;
    let mut header = [0; 10];
    connection.read_exact(&mut header).await?;
    // Response.status (1) holds Status.code (1), INVALID_ARGUMENT, and Status.message (2).
    let length = PONG.len() as u8;
    let status = [&[0x0a, length + 4, 0x08, 3, 0x12, length], PONG.as_bytes()].concat();
    assert_eq!(header, [0, 0, 0, status.len() as u8, 0, 0, 0, 0, 2, 0], "the header of a pong");
    let mut payload = vec![0; status.len()];
    connection.read_exact(&mut payload).await?;
    assert_eq!(payload, status, "the payload of a pong");
    Ok(())
}
