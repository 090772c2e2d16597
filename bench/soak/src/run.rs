//! A run from its first line to its last: legs of load with checkpoints between them, and the end of the daemon. Owns what
//! is printed; decides nothing about right and wrong.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::Instant;
use vminitd_test_support::Level;

use crate::arguments::Arguments;
use crate::checkpoint::{self, Checkpoint};
use crate::fault::Fault;
use crate::ground::Ground;
use crate::totals::Totals;
use crate::{load, schedule};

/// The first faults are those to look into.
const FAULTS_SHOWN: usize = 10;

pub struct Run {
    ground: Arc<Ground>,
    checkpoint: Checkpoint,
    seed: u64,
    legs: Vec<Duration>,
    totals: Totals,
    begun: Instant,
}

impl Run {
    /// Starts the daemon; `None`, with the reason on stderr, where it cannot be done.
    pub async fn begin(arguments: &Arguments) -> Option<Self> {
        let Arguments { length, seed } = *arguments;
        let ground = Ground::prepare().await?;
        println!("soak: {} of mixed load, --seed {seed}", clock(length));
        let checkpoint = Checkpoint::of_idle(&ground);
        let legs = schedule::legs(length);
        let (totals, begun) = (Totals::default(), Instant::now());
        Some(Self { ground: Arc::new(ground), checkpoint, seed, legs, totals, begun })
    }

    /// Goes through all legs, or up to the first in which something is wrong; gives what that is.
    pub async fn go(&mut self) -> Vec<Fault> {
        for (number, length) in self.legs.clone().into_iter().enumerate() {
            match self.leg(number, length).await {
                Ok(faults) if faults.is_empty() => {}
                Ok(faults) => return faults,
                Err(fault) => return vec![fault],
            }
        }
        self.checkpoint.growth().err().into_iter().collect()
    }

    async fn leg(&mut self, number: usize, length: Duration) -> Result<Vec<Fault>, Fault> {
        let outcome = load::run(&self.ground, self.seed, number, Instant::now() + length).await;
        self.totals += outcome.totals;
        if !outcome.faults.is_empty() {
            return Ok(outcome.faults);
        }
        let faults = checkpoint::events(&self.ground, outcome.audience, &outcome.visits).await?;
        if faults.is_empty() {
            let level = self.checkpoint.level(&self.ground).await?;
            println!("soak: {} {}; {}", clock(self.begun.elapsed()), self.totals, words(&level));
        }
        Ok(faults)
    }

    /// Says how it was and ends the daemon; whether all was well.
    pub async fn finish(self, faults: &[Fault]) -> bool {
        for fault in faults.iter().take(FAULTS_SHOWN) {
            eprintln!("soak: {fault}");
        }
        let clean = faults.is_empty();
        if !clean {
            eprintln!("--- the daemon's log\n{}---", self.ground.daemon.log_tail());
        }
        let (trend, totals) = (&self.checkpoint.trend, self.totals);
        let memory = format!("memory {:?} kB, a rise of {:.0} kB", trend.levels(), trend.rise_kb());
        let verdict = if clean { "clean".to_owned() } else { format!("{} FAULTS", faults.len()) };
        let (seed, elapsed) = (self.seed, clock(self.begun.elapsed()));
        let summary = format!("soak: {verdict} after {elapsed}, --seed {seed}: {totals}; {memory}");
        if clean {
            // The end of the daemon has to be in order too, or it panics.
            self.abandon().await;
            println!("{summary}");
        } else {
            println!("{summary}");
            self.abandon().await;
        }
        clean
    }

    /// Ends the daemon, which takes with it whatever runs still.
    pub async fn abandon(self) {
        let mut shared = self.ground;
        // Workers that were given up let go of it when they are polled next.
        let ground = loop {
            match Arc::try_unwrap(shared) {
                Ok(ground) => break ground,
                Err(still_shared) => shared = still_shared,
            }
            yield_now().await;
        };
        ground.daemon.stop().await;
    }
}

/// What the daemon holds, as it is printed.
fn words(level: &Level) -> String {
    let Level { descriptors, threads, children, mounts, cgroups, terminals, files, maps, resident_kb } =
        level;
    format!(
        "{descriptors} fds, {threads} threads, {children} children, {mounts} mounts, {cgroups} cgroups, \
         {terminals} ptys, {files} files, {maps} maps, {resident_kb} kB"
    )
}

/// Minutes and seconds.
fn clock(time: Duration) -> String {
    format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}
