//! Stdio over vsock, behind a backend that hides a half-close and may drop what a plain close overtakes: every byte
//! arrives, whoever reads it and however, and the end of file comes right behind the last one.

use std::time::Duration;

use crc32fast::Hasher;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout, Instant};
use vminit_shim::api::containerd::api::CloseIORequest;
use vminit_shim::client::{context, Container, Exec, Stdio, INIT};
use vminit_shim::spec;

use crate::machine::{build_folder, root_disk, Machine};

const MIB: usize = 1 << 20;

/// How long after the last byte the end of file may come. A connection that is closed the plain way ends after 8 s.
const END: Duration = Duration::from_secs(1);

/// How long the next bytes may take: only a failure uses it up.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a reader that stalls has left to read: as much as there is room for between two processes (227 KiB in the
/// host's socket, 64 KiB in the backend, measured), so that the backend holds what it may lose.
const LEFT: usize = 300 * 1024;

// ---- what is written

/// Bytes in which a loss, a repetition or a swap shows, and the script that prints them in the guest.
struct Noise {
    bytes: Vec<u8>,
    script: String,
}

/// At least so many bytes: busybox, numbered, again and again.
fn noise(least: usize) -> Noise {
    let program = build_folder().expect("there is an image").join("busybox");
    let program = std::fs::read(program).expect("read busybox");
    let copies = least.div_ceil(program.len());
    let number = |n| [format!("{n}\n").as_bytes(), &program].concat();
    let script = format!("n=1; while [ $n -le {copies} ]; do echo $n; cat /bin/busybox; n=$((n+1)); done");
    Noise { bytes: (1..=copies).flat_map(number).collect(), script }
}

// ---- how it is read

/// How a host reads.
#[derive(Clone, Copy)]
struct Reader {
    /// From one read of at most 64 KiB to the next.
    every: Duration,
    /// How long it does not read, with [`LEFT`] bytes still to come.
    stall: Duration,
}

const FAST: Reader = Reader { every: Duration::ZERO, stall: Duration::ZERO };
const MEBIBYTE_A_SECOND: Reader = Reader { every: Duration::from_micros(62_500), ..FAST };
const STALLING: Reader = Reader { stall: Duration::from_secs(20), ..FAST };

impl Reader {
    /// Reads to the end; asserts that all of `expected` came, and that the end was right behind it.
    async fn check(self, what: &str, stdio: &mut Stdio, expected: &[u8]) {
        let mut socket = stdio.stdout.take().expect("a stream for stdout").socket;
        let mut seen = Seen::default();
        let begun = Instant::now();
        seen.read(&mut socket, expected.len() - LEFT, self.every).await;
        sleep(self.stall).await;
        seen.read(&mut socket, usize::MAX, self.every).await;
        let (bytes, took, end) = (seen.bytes, begun.elapsed(), seen.last_byte.elapsed());
        println!("{what}: {bytes} bytes in {took:.1?}, end of file {end:.0?} after the last one");
        assert_eq!((bytes, seen.crc.finalize()), (expected.len(), crc32fast::hash(expected)), "{what}");
        assert!(end < END, "{what}: the end of file came {end:.0?} after the last byte");
    }
}

/// What has arrived so far.
struct Seen {
    bytes: usize,
    crc: Hasher,
    last_byte: Instant,
}

impl Default for Seen {
    fn default() -> Self {
        Seen { bytes: 0, crc: Hasher::new(), last_byte: Instant::now() }
    }
}

impl Seen {
    /// Reads until there are `goal` bytes in all, or to the end.
    async fn read(&mut self, socket: &mut UnixStream, goal: usize, every: Duration) {
        let mut block = vec![0; 64 * 1024];
        while self.bytes < goal {
            let room = block.len().min(goal - self.bytes);
            let read = timeout(PATIENCE, socket.read(&mut block[..room])).await;
            match read.unwrap_or_else(|_| panic!("nothing comes after {} bytes", self.bytes)).expect("read") {
                0 => return,
                n => self.add(&block[..n]),
            }
            sleep(every.saturating_sub(self.last_byte.elapsed())).await;
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.crc.update(bytes);
        self.bytes += bytes.len();
        self.last_byte = Instant::now();
    }
}

// ---- processes

/// Creates a container that runs a script.
async fn create(machine: &Machine, id: &str, script: &str) -> Stdio {
    let config = spec::container(&["/bin/sh", "-c", script]);
    let stdio = machine.guest.stdio(false).await.expect("streams");
    let created =
        machine.guest.create(Container { id, config: &config, rootfs: &[root_disk()] }, &stdio).await;
    created.unwrap_or_else(|e| panic!("{e}; the console:\n{}", machine.console()));
    stdio
}

/// Adds an exec that runs a script to the container `holder`.
async fn exec(machine: &Machine, exec_id: &str, script: &str, with_stdin: bool) -> Stdio {
    let process = spec::process(&["/bin/sh", "-c", script]);
    let stdio = machine.guest.stdio(with_stdin).await.expect("streams");
    machine
        .guest
        .exec(Exec { container_id: "holder", exec_id, process: &process }, &stdio)
        .await
        .expect("exec");
    stdio
}

/// Starts a process that was created, and waits until it has exited.
async fn run(machine: &Machine, id: &str, exec_id: &str) {
    machine.guest.start(id, exec_id).await.expect("start");
    assert_eq!(machine.guest.wait(id, exec_id).await.expect("wait").status, 0, "{id}/{exec_id}");
}

/// The same, and deletes it at once.
async fn live(machine: &Machine, id: &str, exec_id: &str) {
    run(machine, id, exec_id).await;
    machine.guest.delete(id, exec_id).await.expect("delete");
}

async fn start_holder(machine: &Machine) {
    machine.start("holder", &spec::container(&["/bin/sleep", "1000"])).await;
}

// ---- the tests

#[tokio::test]
async fn output_arrives_whole_at_fast_slow_and_stalling_readers_and_ends_at_once() {
    let Some(machine) = Machine::boot(|_| ()).await else { return };
    start_holder(&machine).await;
    let much = noise(64 * MIB);
    let mut init = create(&machine, "c", &much.script).await;
    let mut beside = exec(&machine, "burst", &much.script, false).await;
    tokio::join!(
        live(&machine, "c", INIT),
        live(&machine, "holder", "burst"),
        FAST.check("a burst of an init", &mut init, &much.bytes),
        FAST.check("a burst of an exec", &mut beside, &much.bytes),
    );

    let some = noise(8 * MIB);
    let mut slow = exec(&machine, "slow", &some.script, false).await;
    let mut stalled = exec(&machine, "stalled", &some.script, false).await;
    tokio::join!(
        live(&machine, "holder", "slow"),
        // Delete would wait for the reader, but not for 20 s.
        run(&machine, "holder", "stalled"),
        MEBIBYTE_A_SECOND.check("a reader of 1 MiB/s", &mut slow, &some.bytes),
        STALLING.check("a reader that stalls for 20 s", &mut stalled, &some.bytes),
    );
    machine.guest.delete("holder", "stalled").await.expect("delete");
    machine.remove("holder").await;
    machine.power_off().await;
}

#[tokio::test]
async fn input_goes_through_cat_and_back_and_cat_ends_with_close_io() {
    let Some(machine) = Machine::boot(|_| ()).await else { return };
    start_holder(&machine).await;
    let some = noise(8 * MIB);
    let mut stdio = exec(&machine, "cat", "exec cat", true).await;
    // To be kept open: behind this backend a half-close of the host would stop the other direction, too.
    let mut stdin = stdio.stdin.take().expect("a stream for stdin").socket;
    let write = async {
        stdin.write_all(&some.bytes).await.expect("write");
        let request =
            CloseIORequest { id: "holder".into(), exec_id: "cat".into(), stdin: true, ..Default::default() };
        let closed = machine.guest.client.task().close_io(context(PATIENCE, "default"), &request).await;
        closed.expect("close stdin");
    };
    tokio::join!(
        live(&machine, "holder", "cat"),
        write,
        FAST.check("stdin through cat", &mut stdio, &some.bytes),
    );
    machine.remove("holder").await;
    what_is_in_flight_when_the_power_goes_off_arrives(machine).await;
}

/// The guest is told to stop while the last quarter of a second of a slow reader is still under way.
async fn what_is_in_flight_when_the_power_goes_off_arrives(mut machine: Machine) {
    let some = noise(3 * MIB);
    let mut stdio = create(&machine, "last", &some.script).await;
    let stop = async {
        live(&machine, "last", INIT).await;
        machine.guest.shutdown().await.expect("shutdown");
    };
    let what = "a power-off behind the last byte";
    tokio::join!(stop, MEBIBYTE_A_SECOND.check(what, &mut stdio, &some.bytes));
    machine.is_off().await;
}
