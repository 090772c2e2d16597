//! The wall clock, held to the machine's real-time clock (RTC): after the boot, once a minute, and when asked. A VM that
//! was paused has missed time, and nobody tells its kernel.
//!
//! The RTC counts whole seconds, so only the moment at which it comes to a new one says where it stands. That moment is
//! waited for off the runtime's thread. What is less than a second off is left alone: a step disturbs programs, and the
//! host's own RTC may be that much off.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{watch, Notify};

use crate::blocking;
use crate::flag::raised;
use crate::sys::{clock, rtc};

/// How often the clock is looked at: a pause that nobody announced is made good within it.
const PERIOD: Duration = Duration::from_secs(60);

/// A clock that is off by more is stepped.
const TOLERANCE_US: u64 = 1_000_000;

/// How much of the wall clock may pass while a tick is looked at. If it is more, this thread was held up, or the clock
/// was set by somebody else.
const BLUR: Duration = Duration::from_millis(250);

/// A tick comes each second; this is what it may be late in a VM that is busy.
const TICK_WAIT: Duration = Duration::from_millis(1_500);

/// How often the RTC is read for the next second, where it has no interrupts.
const POLL: Duration = Duration::from_millis(10);

/// Ticks that are waited for in vain before it is left for the next time.
const ATTEMPTS: usize = 3;

/// 2020-01-01: a clock before it was never set.
const ABSURD: Duration = Duration::from_secs(1_577_836_800);

/// The keeper of the wall clock; a handle.
#[derive(Clone, Default)]
pub struct Clock(Arc<Notify>);

impl Clock {
    /// Has the clock looked at now. Returns at once; several calls before it is done are one.
    pub fn resync(&self) {
        self.0.notify_one();
    }

    /// Looks at the clock now, then each minute and whenever asked, until `stopped`; not at all without an RTC.
    pub async fn keep(self, mut stopped: watch::Receiver<bool>) {
        tokio::select! {
            () = self.keep_on() => {}
            () = raised(&mut stopped) => {}
        }
    }

    /// Waits until somebody has asked for a look.
    pub(super) async fn asked(&self) {
        self.0.notified().await;
    }

    async fn keep_on(&self) {
        loop {
            match blocking::run("reading the RTC", sync).await {
                Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                    tracing::debug!("no RTC: the clock is left alone");
                    return;
                }
                Ok(Err(error)) => tracing::warn!(%error, "cannot hold the clock to the RTC"),
                Ok(Ok(())) => {}
                // The runtime is going down.
                Err(_) => return,
            }
            // An error is the period's end: nobody asked.
            let _ = tokio::time::timeout(PERIOD, self.asked()).await;
        }
    }
}

/// Sets a clock that was never set to what the RTC says, to the second: as a rule the kernel has done it.
pub fn set_if_absurd() -> io::Result<()> {
    if clock::wall() >= ABSURD {
        return Ok(());
    }
    match rtc::seconds() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        second => clock::set_wall(Duration::from_secs(second?).max(clock::wall())),
    }
}

/// Steps the clock if it is off. Blocks until the RTC's next tick: for a second as a rule, for nine at most.
fn sync() -> io::Result<()> {
    for _ in 0..ATTEMPTS {
        match next_tick()?.map(|tick| tick.verdict()) {
            Some(Verdict::Step { by_us }) => return step(by_us),
            Some(Verdict::Keep) => return Ok(()),
            Some(Verdict::Blurred) | None => {}
        }
    }
    tracing::debug!("no tick of the RTC was seen clearly");
    Ok(())
}

fn step(by_us: i64) -> io::Result<()> {
    let by = Duration::from_micros(by_us.unsigned_abs());
    let now = clock::wall();
    clock::set_wall(if by_us < 0 { now.saturating_sub(by) } else { now + by })?;
    tracing::info!(by_ms = by_us / 1_000, "clock stepped");
    Ok(())
}

/// The RTC came to a new second, between these two times of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tick {
    second: u64,
    before: Duration,
    after: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Keep,
    Step {
        by_us: i64,
    },
    /// The two times are too far apart to say.
    Blurred,
}

impl Tick {
    fn verdict(self) -> Verdict {
        match self.after.checked_sub(self.before) {
            Some(blur) if blur <= BLUR => {}
            _ => return Verdict::Blurred,
        }
        let by_us = micros(Duration::from_secs(self.second)).saturating_sub(micros(self.before));
        match by_us.unsigned_abs() {
            0..=TOLERANCE_US => Verdict::Keep,
            _ => Verdict::Step { by_us },
        }
    }
}

/// Good for 290,000 years.
fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// Waits for a tick by interrupt, else by reading again and again. None if neither shows one.
fn next_tick() -> io::Result<Option<Tick>> {
    let start = Reading::take()?;
    match interrupt(start.second) {
        Ok(Some(tick)) => Ok(Some(tick)),
        // No interrupts, or somebody else has the device: it can be read all the same.
        Ok(None) | Err(_) => polled(Reading::take()?, Reading::take),
    }
}

fn interrupt(start: u64) -> io::Result<Option<Tick>> {
    if !rtc::Ticks::start()?.next(TICK_WAIT)? {
        return Ok(None);
    }
    let reading = Reading::take()?;
    // The second may have ended while the interrupts were asked for. If more have passed the VM was paused, and the
    // interrupt came late.
    let in_time = (1..=2).contains(&reading.second.wrapping_sub(start));
    Ok(in_time.then_some(Tick { second: reading.second, before: reading.before, after: reading.after }))
}

/// The RTC, and the wall clock before and after it was read.
#[derive(Debug, Clone, Copy)]
struct Reading {
    second: u64,
    before: Duration,
    after: Duration,
}

impl Reading {
    fn take() -> io::Result<Reading> {
        let before = clock::wall();
        let second = rtc::seconds()?;
        Ok(Reading { second, before, after: clock::wall() })
    }
}

/// Reads until the second is the next one.
fn polled(mut last: Reading, mut read: impl FnMut() -> io::Result<Reading>) -> io::Result<Option<Tick>> {
    let begun = Instant::now();
    while begun.elapsed() < TICK_WAIT {
        std::thread::sleep(POLL);
        let next = read()?;
        // If more than one has passed the VM was paused, and the tick was missed.
        if next.second == last.second + 1 {
            return Ok(Some(Tick { second: next.second, before: last.before, after: next.after }));
        }
        last = next;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(second: u64, before_ms: u64, after_ms: u64) -> Verdict {
        let [before, after] = [before_ms, after_ms].map(Duration::from_millis);
        Tick { second, before, after }.verdict()
    }

    #[test]
    fn the_clock_is_stepped_only_when_it_is_off_by_more_than_a_second() {
        assert_eq!(verdict(100, 100_000, 100_010), Verdict::Keep);
        assert_eq!(verdict(100, 99_000, 99_010), Verdict::Keep);
        assert_eq!(verdict(100, 101_000, 101_010), Verdict::Keep);
        assert_eq!(verdict(100, 98_999, 99_009), Verdict::Step { by_us: 1_001_000 });
        assert_eq!(verdict(100, 101_001, 101_011), Verdict::Step { by_us: -1_001_000 });
        assert_eq!(verdict(5_000_000_000, 0, 0), Verdict::Step { by_us: 5_000_000_000_000_000 });
        assert_eq!(verdict(0, 7_200_000, 7_200_000), Verdict::Step { by_us: -7_200_000_000 });
    }

    #[test]
    fn a_tick_that_was_looked_at_too_long_says_nothing() {
        assert_eq!(verdict(100, 10_000, 10_250), Verdict::Step { by_us: 90_000_000 });
        assert_eq!(verdict(100, 10_000, 10_251), Verdict::Blurred);
        // Somebody set the clock back meanwhile.
        assert_eq!(verdict(100, 10_000, 9_999), Verdict::Blurred);
    }

    /// What polling makes of an RTC that shows these seconds, one a reading, at 10 ms of the wall clock each.
    fn seen(seconds: &[u64]) -> Option<(u64, u64, u64)> {
        let mut readings = (0..).zip(seconds).map(|(turn, second)| Reading {
            second: *second,
            before: Duration::from_millis(turn * 10),
            after: Duration::from_millis(turn * 10 + 1),
        });
        let first = readings.next().expect("a first reading");
        let read = || readings.next().ok_or_else(|| io::ErrorKind::UnexpectedEof.into());
        let tick = polled(first, read).ok()??;
        Some((tick.second, tick.before.as_millis() as u64, tick.after.as_millis() as u64))
    }

    #[test]
    fn a_tick_lies_between_the_last_reading_of_a_second_and_the_first_of_the_next() {
        assert_eq!(seen(&[7, 7, 8, 8]), Some((8, 10, 21)));
        assert_eq!(seen(&[7, 8]), Some((8, 0, 11)));
    }

    #[test]
    fn a_leap_of_the_rtc_is_no_tick_but_the_next_second_is() {
        assert_eq!(seen(&[7, 12, 12, 13]), Some((13, 20, 31)));
        assert_eq!(seen(&[7, 3, 4]), Some((4, 10, 21)));
    }

    #[tokio::test(start_paused = true)]
    async fn requests_for_a_look_are_one_and_wait_for_nobody() {
        let clock = Clock::default();
        clock.resync();
        clock.resync();
        assert!(tokio::time::timeout(PERIOD, clock.0.notified()).await.is_ok());
        assert!(tokio::time::timeout(PERIOD, clock.0.notified()).await.is_err());
    }
}
