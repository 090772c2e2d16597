//! How late a host learns of an exit. A process of the guest writes one byte over a connection of its own and exits at
//! once; both the byte and the exit event come over vsock to the same thread of the host, which takes the time of each.
//!
//! What lies between the two is the exit of the process in the kernel, its being reaped, the bookkeeping of the daemon, and
//! the event's way through its connection. The transport is in both, and so no part of the figure; nor is there a second
//! clock.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use vminit_shim::api::containerd::shim::event::Envelope;
use vminit_shim::api::protobuf::well_known_types::empty::Empty;
use vminit_shim::api::protobuf::Message;
use vminit_shim::api::service;
use vminit_shim::api::ttrpc::proto::{MessageHeader, MESSAGE_TYPE_DATA};
use vminit_shim::client::{Event, Received};

use crate::error::BenchError;
use crate::figure::{percentile, Figure, Unit};
use crate::load::Load;
use crate::raw::{blocking, Caller};
use crate::stage::{Process, Stage};
use crate::stdio::connect;

/// Processes that wait for their turn to exit, and how often so many are started.
const BATCH: usize = 16;
const BATCHES: usize = 2;

/// A process that exits when it is told to.
struct Mortal<'a> {
    process: Process<'a>,
    socket: UnixStream,
}

/// Measures over vsock, alone and under load.
pub async fn measure(build: &Path) -> Result<Vec<Figure>, BenchError> {
    let stage = Stage::vsock(build).await?;
    let events = Caller::connect(&stage.guest.rpc, service::EVENTS_NERDBOX, "Stream", &Empty::new()).await;
    let mut events = events.map_err(BenchError::io("connect for events"))?;
    events.send().map_err(BenchError::io("subscribe to events"))?;
    let mut figures = Vec::new();
    for busy in [false, true] {
        let mut late = Vec::new();
        for _ in 0..BATCHES {
            late.append(&mut batch(&stage, &mut events, busy).await?);
        }
        let suffix = if busy { " under load" } else { "" };
        let p90 = percentile(&late, 90);
        figures.push(Figure::alone(format!("exit to event p50{suffix}"), Unit::Microseconds, late));
        figures.push(Figure::alone(format!("exit to event p90{suffix}"), Unit::Microseconds, vec![p90]));
    }
    Ok(figures)
}

/// The microseconds between byte and event of each process of a batch.
async fn batch(stage: &Stage, events: &mut Caller, busy: bool) -> Result<Vec<f64>, BenchError> {
    let mut mortals = Vec::new();
    for _ in 0..BATCH {
        mortals.push(Mortal::start(stage).await?);
    }
    let load = if busy { Some(Load::begin(stage).await?) } else { None };
    let mut late = Vec::new();
    for mut mortal in mortals {
        let is_counted = load.as_ref().is_none_or(|load| !load.is_over());
        let took = mortal.die(events).map_err(BenchError::io("await an exit"))?;
        if is_counted {
            late.push(took.as_secs_f64() * 1e6);
        }
        mortal.process.end().await?;
    }
    if let Some(load) = load {
        load.end().await?;
    }
    Ok(late)
}

impl<'a> Mortal<'a> {
    async fn start(stage: &'a Stage) -> Result<Mortal<'a>, BenchError> {
        let address = stage.address();
        let [family, place] = &address.words;
        let process = stage.run_peer(&["exits", family, place]).await?;
        let socket =
            blocking(connect(&address.endpoint).await?).map_err(BenchError::io("connect to a peer"))?;
        Ok(Mortal { process, socket })
    }

    /// From its last byte to the event of its exit.
    fn die(&mut self, events: &mut Caller) -> io::Result<Duration> {
        self.socket.write_all(&[0])?;
        self.socket.read_exact(&mut [0])?;
        let gone = Instant::now();
        while !self.is_exit(events.receive()?)? {}
        Ok(gone.elapsed())
    }

    fn is_exit(&self, (header, payload): (MessageHeader, Vec<u8>)) -> io::Result<bool> {
        if header.type_ != MESSAGE_TYPE_DATA {
            return Err(io::Error::other("the stream of events has ended"));
        }
        let received = Received::decode(Envelope::parse_from_bytes(&payload)?).map_err(io::Error::other)?;
        Ok(matches!(received.event, Event::Exit { id, .. } if id == self.process.exec_id))
    }
}
