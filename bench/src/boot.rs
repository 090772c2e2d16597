//! How long a guest takes from PID 1's first instruction to its first answer, beside a bare PID 1 that does no more
//! than listening needs: the same machine, the same image but for `/init`, the same host, in turns.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};
use vminit_shim::client::Endpoint;
use vminit_shim::vm::{Milestone, Vm, VmConfig};
use vminitd_deploy::cpio::Tree;

use crate::error::BenchError;
use crate::figure::{Budget, Figure, Turn, Unit};

/// An emulated boot takes 1.5 s on a machine that has nothing else to do.
const BOOT: Duration = Duration::from_secs(60);

/// How often each is booted.
const TURNS: usize = 9;

/// Of the design.
const BUDGET: f64 = 2.0;

/// Between two tries to connect.
const PAUSE: Duration = Duration::from_millis(1);

/// The floor, in `build/`.
const FLOOR: &str = "vminitd-bench-peer";

/// A call of System.Info on stream 1 as the `ttrpc` crate writes it: the frame's header, whose length is that of the
/// request behind it, and the request with its service and its method (fields 1 and 2).
fn request() -> Vec<u8> {
    let field = |number: u8, text: &str| {
        let length = u8::try_from(text.len()).expect("both names are short");
        [&[number << 3 | 2, length], text.as_bytes()].concat()
    };
    let service = vminit_shim::api::service::SYSTEM;
    let request = [field(1, service), field(2, "Info")].concat();
    let length = u32::try_from(request.len()).expect("both names are short");
    // Stream 1, type request, no flags.
    [&length.to_be_bytes()[..], &[0, 0, 0, 1, 1, 0], &request].concat()
}

/// Needs what `./taskw image` builds and the peer, all in `build`.
pub async fn measure(build: &Path) -> Result<Vec<Figure>, BenchError> {
    // Socket paths have room for 107 bytes (unix(7)), so the folder's name is short.
    let dir = tempfile::Builder::new().prefix("vmb").tempdir();
    let dir = dir.map_err(BenchError::io("make a folder for the microVMs"))?;
    let init = build.join("vminitd");
    let (floor, ours) =
        (image(build, &build.join(FLOOR), &dir, "floor")?, image(build, &init, &dir, "ours")?);
    let mut turns = Vec::new();
    // The first of each is not counted: files are read from disks in it.
    for turn in 0..=TURNS {
        let taken = Turn { floor: boot(build, &floor, &dir).await?, ours: boot(build, &ours, &dir).await? };
        if turn > 0 {
            turns.push(taken);
        }
    }
    let what = "entry to first answer, beside a bare PID 1";
    Ok(vec![Figure::beside(what, Unit::Milliseconds, turns).within(Budget::AtMost(BUDGET))])
}

/// The image with another `/init`, under a name of its own: the kernel unpacks an archive over what it has unpacked
/// before.
fn image(build: &Path, init: &Path, dir: &TempDir, name: &str) -> Result<PathBuf, BenchError> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|source| BenchError::File { path: path.to_owned(), source })
    };
    let mut tree = Tree::default();
    tree.file("init", 0o755, read(init)?);
    let mut image = read(&build.join("initrd.img"))?;
    tree.write_to(&mut image).expect("memory takes it, and a program is less than 4 GiB");
    let path = dir.path().join(name);
    std::fs::write(&path, image).map_err(|source| BenchError::File { path: path.clone(), source })?;
    Ok(path)
}

/// One boot: ms from PID 1's entry to the first byte of an answer, by the host's clock.
async fn boot(build: &Path, initrd: &Path, dir: &TempDir) -> Result<f64, BenchError> {
    let config = VmConfig { initrd: initrd.to_owned(), ..VmConfig::new(build, dir.path().join("vm")) };
    let vm = Vm::launch(config).await?;
    // vhost-device-vsock may lose for good what comes while the driver sets up.
    let listens = vm.wait_milestone("vsock-listen", BOOT).await?;
    let since_listens = Instant::now();
    let answered = timeout(BOOT, first_answer(&vm.rpc())).await.unwrap_or_else(|late| Err(late.into()));
    answered.map_err(BenchError::io("have an answer"))?;
    let answered = listens.at + since_listens.elapsed();
    let entered = entry(&vm, &listens).await?;
    vm.stop().await;
    Ok(answered.saturating_sub(entered).as_secs_f64() * 1e3)
}

/// When PID 1 was entered, since the launch. A line may wait in the guest before it is on the console, so that its
/// arrival says little: the entry has its time by the guest's clock, and of the two lines the one that was the least
/// late says what the host's was then.
async fn entry(vm: &Vm, listens: &Milestone) -> Result<Duration, BenchError> {
    let began = |line: &Milestone| line.at.saturating_sub(Duration::from_micros(line.uptime_us));
    let entry = vm.wait_milestone("pid1-entry", BOOT).await?;
    Ok(began(&entry).min(began(listens)) + Duration::from_micros(entry.uptime_us))
}

async fn first_answer(endpoint: &Endpoint) -> std::io::Result<()> {
    let mut stream = connect(endpoint).await;
    stream.write_all(&request()).await?;
    stream.read_u8().await.map(drop)
}

/// Tries until it is connected.
async fn connect(endpoint: &Endpoint) -> UnixStream {
    loop {
        match endpoint.connect().await {
            Ok(stream) => return stream,
            Err(_) => sleep(PAUSE).await,
        }
    }
}
