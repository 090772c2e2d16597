//! How long a call takes beside an echo: a process in the guest that writes back a message of the size of Info's request,
//! over a connection of the same transport. Both are written and read by the same blocking code on the host. Alone, and
//! while a container's stdout runs.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use vminit_shim::api::containerd::api::{ConnectRequest, StateRequest};
use vminit_shim::api::protobuf::well_known_types::empty::Empty;
use vminit_shim::api::service;

use crate::error::BenchError;
use crate::figure::{percentile, Budget, Figure, Turn, Unit};
use crate::load::Load;
use crate::raw::{blocking, Caller};
use crate::stage::{Stage, CONTAINER};
use crate::stdio::connect;

/// Of the design: the p50 of System.Info, against that of the echo, on an idle guest.
const BUDGET: f64 = 2.0;

/// Rounds, and round trips of each talk in one.
const ROUNDS: usize = 7;
const TRIPS: usize = 400;

/// Rounds under load; in one, each talk has as many round trips as fit beside 64 MiB.
const BUSY_ROUNDS: usize = 3;

const PERCENTS: [usize; 2] = [50, 99];

/// What can be timed.
trait Talk {
    fn round_trip(&mut self) -> io::Result<Duration>;
}

struct Echo {
    socket: UnixStream,
    message: Vec<u8>,
}

impl Talk for Echo {
    fn round_trip(&mut self) -> io::Result<Duration> {
        let begun = Instant::now();
        self.socket.write_all(&self.message)?;
        self.socket.read_exact(&mut self.message)?;
        Ok(begun.elapsed())
    }
}

impl Talk for Caller {
    fn round_trip(&mut self) -> io::Result<Duration> {
        let begun = Instant::now();
        self.send()?;
        let answer = self.receive()?;
        let took = begun.elapsed();
        self.check(answer)?;
        Ok(took)
    }
}

/// Measures over vsock.
pub async fn measure(build: &Path) -> Result<Vec<Figure>, BenchError> {
    let stage = Stage::vsock(build).await?;
    let mut calls = calls(&stage).await.map_err(BenchError::io("connect for the calls"))?;
    let address = stage.address();
    let [family, place] = &address.words;
    let peer = stage.run_peer(&["echo", family, place]).await?;
    let socket =
        blocking(connect(&address.endpoint).await?).map_err(BenchError::io("connect to the echo"))?;
    let mut echo = Echo { socket, message: vec![0; calls[0].1.request_bytes()] };

    // Not counted: caches and buffers grow.
    rounds(&stage, &mut echo, &mut calls, 1, false).await?;
    let mut figures = rounds(&stage, &mut echo, &mut calls, ROUNDS, false).await?;
    figures[0].budget = Some(Budget::AtMost(BUDGET));
    figures.append(&mut rounds(&stage, &mut echo, &mut calls, BUSY_ROUNDS, true).await?);
    drop(echo);
    peer.end().await?;
    Ok(figures)
}

/// The calls, each with a connection of its own; Info is the first.
async fn calls(stage: &Stage) -> io::Result<[(&'static str, Caller); 3]> {
    let rpc = &stage.guest.rpc;
    let state = StateRequest { id: CONTAINER.into(), ..Default::default() };
    let connect = ConnectRequest { id: CONTAINER.into(), ..Default::default() };
    Ok([
        ("System.Info", Caller::connect(rpc, service::SYSTEM, "Info", &Empty::new()).await?),
        ("Task.State", Caller::connect(rpc, service::TASK_V3, "State", &state).await?),
        ("Task.Connect", Caller::connect(rpc, service::TASK_V3, "Connect", &connect).await?),
    ])
}

/// The p50 and the p99 of each call, in turns with the echo.
async fn rounds(
    stage: &Stage,
    echo: &mut Echo,
    calls: &mut [(&'static str, Caller); 3],
    count: usize,
    busy: bool,
) -> Result<Vec<Figure>, BenchError> {
    let suffix = if busy { " under load" } else { "" };
    let mut turns = vec![Vec::new(); calls.len() * PERCENTS.len()];
    for _ in 0..count {
        let floor = trips(stage, echo, busy).await?;
        for (at, (_, call)) in calls.iter_mut().enumerate() {
            let ours = trips(stage, call, busy).await?;
            for (which, percent) in PERCENTS.into_iter().enumerate() {
                let turn = Turn { floor: percentile(&floor, percent), ours: percentile(&ours, percent) };
                turns[at * PERCENTS.len() + which].push(turn);
            }
        }
    }
    let names = calls.iter().flat_map(|(name, _)| PERCENTS.map(|percent| (name, percent)));
    let figures = names.zip(turns).map(|((name, percent), turns)| {
        Figure::beside(format!("{name} p{percent}{suffix}, beside an echo"), Unit::Microseconds, turns)
    });
    Ok(figures.collect())
}

/// The microseconds of [`TRIPS`] round trips, or of as many as end beside a load.
async fn trips(stage: &Stage, talk: &mut impl Talk, busy: bool) -> Result<Vec<f64>, BenchError> {
    let load = if busy { Some(Load::begin(stage).await?) } else { None };
    let mut took = Vec::new();
    while load.as_ref().map_or(took.len() < TRIPS, |load| took.is_empty() || !load.is_over()) {
        let trip = talk.round_trip().map_err(BenchError::io("make a round trip"))?;
        took.push(trip.as_secs_f64() * 1e6);
    }
    if let Some(load) = load {
        load.end().await?;
    }
    Ok(took)
}
