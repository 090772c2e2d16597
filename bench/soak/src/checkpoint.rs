//! The checkpoint behind each leg: no load, no container. Owns what is compared: every event of the leg with the rules of
//! their order and with what is owed; what the daemon holds with what it held before the first load; its memory with
//! that after the warm-up.

use vminit_shim::client::{Event, Received, Stdio, INIT};
use vminitd_test_support::{order, poll, Audience, Level, LIMIT};

use crate::fault::Fault;
use crate::ground::Ground;
use crate::trend::Trend;

/// The container whose delete is the last event of a leg.
const CURTAIN: &str = "curtain";

/// No bound, for what there is nothing to compare with yet; half of all, as a margin is added.
const ANY: usize = usize::MAX / 2;

/// What is known from before.
pub struct Checkpoint {
    /// The most that it may hold.
    allowed: Level,
    pub trend: Trend,
}

impl Checkpoint {
    /// Before the first load.
    pub fn of_idle(ground: &Ground) -> Self {
        let allowed = Level { maps: ANY, resident_kb: ANY, ..Level::of(&ground.daemon) };
        Self { allowed, trend: Trend::default() }
    }

    /// Waits until the daemon holds no more than it may; what it holds then. From the first time on its memory counts
    /// too.
    pub async fn level(&mut self, ground: &Ground) -> Result<Level, Fault> {
        let look = || Level::of(&ground.daemon).is_within(&self.allowed);
        poll(LIMIT, look).await.map_err(Fault::Level)?;
        let now = Level::of(&ground.daemon);
        if self.allowed.resident_kb == ANY {
            self.allowed = Level { maps: now.maps, resident_kb: now.resident_kb, ..self.allowed };
        }
        self.trend.add(now.resident_kb);
        Ok(now)
    }

    /// Whether memory has grown over all checkpoints.
    pub fn growth(&self) -> Result<(), Fault> {
        match self.trend.is_leak() {
            true => Err(Fault::Trend { rise_kb: self.trend.rise_kb(), levels: self.trend.levels().to_vec() }),
            false => Ok(()),
        }
    }
}

/// Holds everything that was told in a leg, and what single visitors were told of it, against what is owed.
///
/// # Errors
/// When the end of the events cannot be found.
pub async fn events(
    ground: &Ground,
    audience: Audience,
    visits: &[Vec<Received>],
) -> Result<Vec<Fault>, Fault> {
    ground.create(CURTAIN, &["/bin/true"], &Stdio::default()).await?;
    ground.guest.delete(CURTAIN, INIT).await.map_err(Fault::call(CURTAIN))?;
    let all = audience.close(CURTAIN).await;
    let events: Vec<Event> = all.iter().map(|received| received.event.clone()).collect();
    let out_of_order = order::check(&events).err();
    let unsettled = ground.take_ledger().settle(&events);
    let mut faults: Vec<Fault> = out_of_order.into_iter().chain(unsettled).map(Fault::Events).collect();
    let strangers = visits.iter().enumerate().filter_map(|(number, visit)| stranger(&all, number, visit));
    faults.extend(strangers);
    Ok(faults)
}

/// Every event goes to every subscriber, so what one was told is one piece of what all were told.
fn stranger(all: &[Received], number: usize, visit: &[Received]) -> Option<Fault> {
    let first = visit.first()?;
    let from = all.iter().position(|received| received == first).unwrap_or(all.len());
    let mut differences =
        visit.iter().enumerate().filter(|(n, received)| all.get(from + n) != Some(received));
    let (_, received) = differences.next()?;
    Some(Fault::Subscriber { number, first: format!("{:?}", received.event) })
}
