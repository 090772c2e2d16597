//! Subscribers of the events. One chain of them takes turns: each leaves in order, the next gets what it did not.
//! Visitors come besides while one of the chain is there, and leave in order or by cutting their connections.

use std::time::Duration;

use tokio::time::{sleep, timeout_at, Instant};
use vminit_shim::client::{Endpoint, Received};
use vminitd_test_support::chance::Chance;
use vminitd_test_support::{Audience, Subscriber};

/// Visitors at the same time.
const VISITORS_MAX: u64 = 3;

/// What a subscriber stays at most, and what it is until the next comes.
const STAY_MS: u64 = 1_000;
const AWAY_MS: u64 = 100;

/// What they were told.
pub struct Seen {
    pub audience: Audience,
    /// Of the visitors who left in order.
    pub visits: Vec<Vec<Received>>,
    pub subscriptions: u64,
}

/// Subscribes again and again until then.
pub async fn watch(rpc: Endpoint, mut chance: Chance, until: Instant) -> Seen {
    let mut audience = Audience::new(rpc.clone());
    let (mut visits, mut visitors) = (Vec::new(), 0);
    while Instant::now() < until {
        audience.come().await;
        if chance.once_in(2) {
            let count = 1 + chance.below(VISITORS_MAX);
            visitors += count;
            // What was told to nobody yet goes to the first, which is to be the one of the chain.
            audience.is_heard().await;
            visit(&rpc, &mut chance, count, until, &mut visits).await;
            // An event need be written to one connection only. Before the one of the chain leaves, it is to have what
            // was written to those of visitors.
            if !audience.is_told_all(until).await {
                break;
            }
        } else {
            stay(STAY_MS, &mut chance, until).await;
        }
        audience.leave().await;
        stay(AWAY_MS, &mut chance, until).await;
    }
    let subscriptions = audience.subscriptions() as u64 + visitors;
    Seen { audience, visits, subscriptions }
}

async fn visit(
    rpc: &Endpoint,
    chance: &mut Chance,
    count: u64,
    until: Instant,
    visits: &mut Vec<Vec<Received>>,
) {
    let mut present = Vec::new();
    for _ in 0..count {
        present.push(Subscriber::subscribe(rpc).await);
        stay(STAY_MS / VISITORS_MAX, chance, until).await;
    }
    for visitor in present {
        if chance.once_in(2) {
            visitor.vanish();
        } else {
            visits.push(visitor.hang_up().await);
        }
    }
}

async fn stay(most_ms: u64, chance: &mut Chance, until: Instant) {
    let _ = timeout_at(until, sleep(Duration::from_millis(chance.below(most_ms)))).await;
}
