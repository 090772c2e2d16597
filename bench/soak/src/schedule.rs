//! How a run is divided: a warm-up, then legs of equal length, with a checkpoint behind each. Pure.

use std::time::Duration;

/// After this the daemon has met every kind of load many times.
const WARM_UP_MAX: Duration = Duration::from_secs(60);

/// The part of the run that the warm-up takes, where that is less.
const WARM_UP_PART: u32 = 5;

/// What a leg lasts where the run is long enough for more of them than the fewest.
const LEG: Duration = Duration::from_secs(60);

/// Fewer checkpoints show no trend; more only cost time, as the load stands still meanwhile.
const LEGS: (u32, u32) = (4, 20);

/// The lengths of the legs, the warm-up first.
pub fn legs(length: Duration) -> Vec<Duration> {
    let warm_up = (length / WARM_UP_PART).min(WARM_UP_MAX);
    let rest = length - warm_up;
    let count = u32::try_from(rest.as_secs() / LEG.as_secs()).unwrap_or(u32::MAX).clamp(LEGS.0, LEGS.1);
    let mut legs = vec![rest / count; count as usize + 1];
    legs[0] = warm_up;
    legs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(length: u64, warm_up: u64, leg: u64, count: usize) {
        let legs = legs(Duration::from_secs(length));
        assert_eq!(legs[0], Duration::from_secs(warm_up));
        assert_eq!(legs[1..], vec![Duration::from_secs(leg); count]);
        assert_eq!(legs.iter().sum::<Duration>(), Duration::from_secs(length));
    }

    #[test]
    fn a_fifth_of_a_short_run_is_its_warm_up() {
        check(10, 2, 2, 4);
        check(120, 24, 24, 4);
    }

    #[test]
    fn a_minute_of_a_long_run_is_its_warm_up() {
        check(660, 60, 60, 10);
        check(3660, 60, 180, 20);
    }
}
