//! The load: workers that do one kind of thing again and again until the leg is over. Owns their number and their
//! names; what each kind does, and what it checks, is in a file of its own.

mod drops;
mod kills;
mod lives;
mod payloads;
mod subscribers;
mod terminals;

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::Instant;
use vminit_shim::client::Received;
use vminitd_test_support::chance::Chance;
use vminitd_test_support::Audience;

use crate::fault::Fault;
use crate::ground::{Ground, PAYLOAD_BYTES};
use crate::totals::Totals;

/// The workers of a leg, in the order of their seeds. Few, as two processors have to carry them, the daemon and runc;
/// two of the kind that runc is busiest with, so that lives overtake one another.
const WORKERS: [Kind; 6] =
    [Kind::Lives, Kind::Lives, Kind::Payloads, Kind::Terminals, Kind::Kills, Kind::Drops];

#[derive(Debug, Clone, Copy)]
enum Kind {
    Lives,
    Payloads,
    Terminals,
    Kills,
    Drops,
}

/// What a leg has come to.
pub struct Outcome {
    pub totals: Totals,
    pub faults: Vec<Fault>,
    /// Subscribers have been told this so far; it is closed by the checkpoint.
    pub audience: Audience,
    /// What those were told who came besides.
    pub visits: Vec<Vec<Received>>,
}

/// One who does something, with chances of its own.
struct Worker {
    ground: Arc<Ground>,
    name: String,
    chance: Chance,
    totals: Totals,
    count: u64,
    until: Instant,
}

/// Runs all workers until then. A worker that finds something wrong ends the leg for itself alone.
pub async fn run(ground: &Arc<Ground>, seed: u64, leg: usize, until: Instant) -> Outcome {
    let mut workers = JoinSet::new();
    for (number, kind) in WORKERS.into_iter().enumerate() {
        let worker = Worker::new(ground, seed, leg, number, kind, until);
        workers.spawn(worker.work(kind));
    }
    let chance = Chance::new(seed, run_number(leg, WORKERS.len()));
    let seen = subscribers::watch(ground.daemon.rpc(), chance, until).await;
    let mut totals = Totals { subscriptions: seen.subscriptions, ..Totals::default() };
    let mut faults = Vec::new();
    while let Some(ended) = workers.join_next().await {
        match ended {
            Ok((done, fault)) => {
                totals += done;
                faults.extend(fault);
            }
            Err(source) => faults.push(Fault::Worker { worker: format!("a worker of leg {leg}"), source }),
        }
    }
    Outcome { totals, faults, audience: seen.audience, visits: seen.visits }
}

/// Each worker of each leg has chances of its own, the subscribers too.
fn run_number(leg: usize, number: usize) -> u64 {
    (leg * (WORKERS.len() + 1) + number) as u64
}

impl Worker {
    fn new(ground: &Arc<Ground>, seed: u64, leg: usize, number: usize, kind: Kind, until: Instant) -> Self {
        let name = format!("{kind:?}{number}-{leg}").to_lowercase();
        let chance = Chance::new(seed, run_number(leg, number));
        Self { ground: Arc::clone(ground), name, chance, totals: Totals::default(), count: 0, until }
    }

    async fn work(mut self, kind: Kind) -> (Totals, Option<Fault>) {
        while !self.is_over() {
            if let Err(fault) = self.round(kind).await {
                return (self.totals, Some(fault));
            }
        }
        (self.totals, None)
    }

    async fn round(&mut self, kind: Kind) -> Result<(), Fault> {
        match kind {
            Kind::Lives => lives::round(self).await,
            Kind::Payloads => payloads::round(self).await,
            Kind::Terminals => terminals::round(self).await,
            Kind::Kills => kills::round(self).await,
            Kind::Drops => drops::round(self).await,
        }
    }

    /// Whether nothing new is to be begun.
    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// The id of the next container, unique in the run.
    fn next_id(&mut self) -> String {
        self.count += 1;
        format!("{}-{}", self.name, self.count)
    }

    /// An exit status that nothing else has by itself.
    fn status(&mut self) -> u32 {
        self.chance.below(100) as u32
    }

    /// The size of a payload: each power of two is as likely as another.
    fn payload(&mut self) -> usize {
        let (least, most) = PAYLOAD_BYTES;
        let doublings = u64::from((most / least).ilog2());
        let base = least << self.chance.below(doublings);
        base + self.chance.below(base as u64 + 1) as usize
    }

    /// A source of noise that no other payload has.
    fn noise(&mut self) -> Chance {
        Chance::new(self.chance.below(u64::MAX), 0)
    }
}
