//! Throughput of stdio beside that of a raw connection: the same peer, the same bytes, the same transport, in turns.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout, Instant};
use vminit_shim::client::{Endpoint, Stdio, Stream};

use crate::error::BenchError;
use crate::figure::{Budget, Figure, Turn, Unit};
use crate::stage::Stage;

/// Bytes of one read or write of the host: what the budget's floor is measured with.
const BLOCK_BYTES: usize = 64 * 1024;

/// What is moved in one turn, and how often.
const BYTES: usize = 64 << 20;
const TURNS: usize = 7;

/// Of the design: stdout over vsock, against raw writes.
const BUDGET: f64 = 0.7;

/// Ours: what a relay loses to the simplest one there can be.
const RELAY_BUDGET: f64 = 0.95;

/// How long a peer may take until it listens, and between two looks.
const LISTENS: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Clone, Copy)]
enum Direction {
    /// From the guest to the host.
    Output,
    /// From the host to the guest.
    Input,
}

impl Direction {
    fn name(self) -> &'static str {
        match self {
            Direction::Output => "stdout",
            Direction::Input => "stdin",
        }
    }

    /// What the peer is then.
    fn role(self) -> &'static str {
        match self {
            Direction::Output => "source",
            Direction::Input => "sink",
        }
    }
}

/// Measures both directions over Unix sockets and over vsock; and output over vsock beside a relay that does nothing
/// but relay, which tells how much of the difference to raw writes is the relay's.
pub async fn measure(build: &Path) -> Result<Vec<Figure>, BenchError> {
    let vsock = Stage::vsock(build).await?;
    let mut figures = output_beside_a_relay(&vsock).await?;
    figures.push(figure(&vsock, Direction::Input).await?);
    drop(vsock);
    let unix = Stage::unix(build).await?;
    figures.push(figure(&unix, Direction::Output).await?);
    figures.push(figure(&unix, Direction::Input).await?);
    Ok(figures)
}

async fn figure(stage: &Stage, direction: Direction) -> Result<Figure, BenchError> {
    let mut turns = Vec::new();
    // The first of each is not counted: the first of many pages are touched in it.
    for turn in 0..=TURNS {
        let raw = raw(stage, BYTES, direction, direction.role()).await?;
        let ours = ours(stage, BYTES, direction).await?;
        if turn > 0 {
            turns.push(Turn { floor: rate(BYTES, raw), ours: rate(BYTES, ours) });
        }
    }
    Ok(beside(stage, direction, "raw writes", turns))
}

/// Three in each turn: raw, a bare relay, ours.
async fn output_beside_a_relay(stage: &Stage) -> Result<Vec<Figure>, BenchError> {
    let direction = Direction::Output;
    let (mut beside_raw, mut beside_relay) = (Vec::new(), Vec::new());
    for turn in 0..=TURNS {
        let raw_took = raw(stage, BYTES, direction, direction.role()).await?;
        let relay_took = raw(stage, BYTES, direction, "relay").await?;
        let ours = rate(BYTES, ours(stage, BYTES, direction).await?);
        if turn > 0 {
            beside_raw.push(Turn { floor: rate(BYTES, raw_took), ours });
            beside_relay.push(Turn { floor: rate(BYTES, relay_took), ours });
        }
    }
    Ok(vec![
        beside(stage, direction, "raw writes", beside_raw).within(Budget::AtLeast(BUDGET)),
        beside(stage, direction, "a bare relay", beside_relay).within(Budget::AtLeast(RELAY_BUDGET)),
    ])
}

fn beside(stage: &Stage, direction: Direction, floor: &str, turns: Vec<Turn>) -> Figure {
    let what = format!("{} over {}, beside {floor}", direction.name(), stage.transport);
    Figure::beside(what, Unit::MegabytesPerSecond, turns)
}

/// In 10^6 bytes a second.
fn rate(bytes: usize, took: Duration) -> f64 {
    bytes as f64 / took.as_secs_f64() / 1e6
}

/// The process listens by itself, as a peer of this role; nothing of ours is between it and the host.
async fn raw(stage: &Stage, bytes: usize, direction: Direction, role: &str) -> Result<Duration, BenchError> {
    let address = stage.address();
    let [family, place] = &address.words;
    let process = stage.run_peer(&[role, &bytes.to_string(), family, place]).await?;
    let mut socket = connect(&address.endpoint).await?;
    let (mut from, mut to) = socket.split();
    let took = time(direction, bytes, &mut from, &mut to).await.map_err(BenchError::io("move raw bytes"))?;
    drop(socket);
    process.end().await?;
    Ok(took)
}

/// The process has stdio; the daemon relays it.
async fn ours(stage: &Stage, bytes: usize, direction: Direction) -> Result<Duration, BenchError> {
    let mut process = stage.run_peer(&[direction.role(), &bytes.to_string()]).await?;
    let Stdio { stdin: Some(Stream { socket: to, .. }), stdout: Some(Stream { socket: from, .. }), .. } =
        &mut process.stdio
    else {
        unreachable!("every process has both")
    };
    let took = time(direction, bytes, from, to).await.map_err(BenchError::io("move stdio"))?;
    process.end().await?;
    Ok(took)
}

/// Connects to a peer as soon as it listens.
pub async fn connect(endpoint: &Endpoint) -> Result<UnixStream, BenchError> {
    let listens = async {
        loop {
            match endpoint.connect().await {
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                    sleep(PAUSE).await
                }
                other => return other,
            }
        }
    };
    let connected = timeout(LISTENS, listens).await.unwrap_or_else(|late| Err(late.into()));
    connected.map_err(BenchError::io("connect to the peer"))
}

/// From the word to begin until the last byte has arrived, once the peer is ready.
async fn time(
    direction: Direction,
    bytes: usize,
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
) -> io::Result<Duration> {
    from.read_u8().await?;
    let mut block = vec![0; BLOCK_BYTES];
    let mut left = bytes;
    let begun = Instant::now();
    match direction {
        Direction::Output => {
            to.write_u8(0).await?;
            while left > 0 {
                match from.read(&mut block).await? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    n => left -= n,
                }
            }
        }
        Direction::Input => {
            while left > 0 {
                let n = left.min(BLOCK_BYTES);
                to.write_all(&block[..n]).await?;
                left -= n;
            }
            from.read_u8().await?;
        }
    }
    Ok(begun.elapsed())
}
