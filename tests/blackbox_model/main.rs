//! Random lives: many runs of calls that overtake one another, on runcs that are held up and fail at random, with
//! subscribers that come and go. Whatever happens, the log of events obeys the rules of `vminitd_test_support::order`.
//!
//! `VMINITD_SEED` repeats the choices of a run that failed; the kernel's own are not repeated.

mod life;

use tokio::task::JoinSet;
use vminit_shim::client::{Received, INIT};
use vminitd_test_support::calls::create;
use vminitd_test_support::chance::{self, Chance};
use vminitd_test_support::{order, Audience, Daemon};

use life::{Life, Tally};

/// The container whose last event ends the log.
const CURTAIN: &str = "curtain";
/// Daemons at the same time, each with runs of its own, one after the other.
const DAEMONS: u64 = 4;
/// Runs of each daemon.
const RUNS: u64 = 60;

#[tokio::test]
async fn whatever_overtakes_whatever_the_events_are_in_order_and_complete() {
    let seed = chance::seed();
    let mut daemons = JoinSet::new();
    for number in 0..DAEMONS {
        daemons.spawn(runs(seed, number));
    }
    let (mut told, mut events, mut subscriptions) = (Tally::default(), 0, 0);
    while let Some(ended) = daemons.join_next().await {
        let seen = ended.unwrap_or_else(|error| panic!("VMINITD_SEED={seed}: {error}"));
        told.add(seen.told);
        (events, subscriptions) = (events + seen.events, subscriptions + seen.subscriptions);
    }
    let runs = DAEMONS * RUNS;
    println!("VMINITD_SEED={seed}: {runs} runs, {events} events, {subscriptions} subscriptions; {told:?}");
}

/// What the subscribers of one daemon saw.
struct Seen {
    told: Tally,
    events: usize,
    subscriptions: usize,
}

/// The runs of one daemon.
async fn runs(seed: u64, number: u64) -> Seen {
    let daemon = Daemon::with_fake_runc().await;
    let before = daemon.open_descriptors();
    let mut audience = Audience::new(daemon.rpc());
    let mut tally = Tally::default();
    for run in number * RUNS..(number + 1) * RUNS {
        let mut life = Life::new(&daemon, &mut audience, Chance::new(seed, run), run).await;
        life.live().await;
        tally.add(life.end().await);
    }
    let subscriptions = audience.subscriptions();
    let all = closed(audience, &daemon).await;
    verify(&all, &tally).unwrap_or_else(|complaint| panic!("VMINITD_SEED={seed}: {complaint}"));
    daemon.assert_nothing_left(before).await;
    daemon.stop().await;
    Seen { told: tally, events: all.len(), subscriptions }
}

/// Waits for all that was published; gives the whole log.
async fn closed(audience: Audience, daemon: &Daemon) -> Vec<Received> {
    let guest = daemon.guest().await;
    create(&guest, CURTAIN, &["forever"]).await.expect("create");
    guest.delete(CURTAIN, INIT).await.expect("delete");
    audience.close(CURTAIN).await
}

fn verify(all: &[Received], tally: &Tally) -> Result<(), String> {
    let events: Vec<_> = all.iter().map(|received| received.event.clone()).collect();
    order::check(&events)?;
    let told = Tally::of(&events);
    // Every success is told once, and nothing else is.
    (told == *tally).then_some(()).ok_or_else(|| format!("told {told:?}, but the answers were {tally:?}"))
}
