//! When the agent is started again, and when no more. Pure: times come from the caller. It never looks at why a life
//! ended.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Restarts within [`WINDOW`] at most: an agent that fails at once is tried for three minutes.
const RESTARTS: usize = 10;

/// A life of this length clears the record of the agent, and so many restarts in so short a time end it.
const WINDOW: Duration = Duration::from_secs(300);

/// The pauses before restarts that follow each other; the last one goes for all others too.
const PAUSES_S: [u64; 6] = [1, 2, 4, 8, 16, 30];

/// The record of one agent.
#[derive(Debug, Default)]
pub struct Backoff {
    /// The latest restarts, the oldest first; [`RESTARTS`] of them at most.
    restarts: VecDeque<Instant>,
    /// Restarts since the last long life, as far as the pauses tell them apart.
    in_a_row: usize,
}

impl Backoff {
    /// Takes note of a life from `began` to `ended`, or of a start that failed. Says how long to wait from `ended` until
    /// the next start, or `None` to give up.
    pub fn pause(&mut self, began: Instant, ended: Instant) -> Option<Duration> {
        if ended.saturating_duration_since(began) >= WINDOW {
            *self = Backoff::default();
        }
        let pause = Duration::from_secs(PAUSES_S[self.in_a_row]);
        let restart = ended + pause;
        if self.restarts.len() == RESTARTS {
            let oldest = self.restarts.pop_front()?;
            if restart.saturating_duration_since(oldest) < WINDOW {
                return None;
            }
        }
        self.restarts.push_back(restart);
        self.in_a_row = (self.in_a_row + 1).min(PAUSES_S.len() - 1);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Lives an agent through these lives; the restarts as seconds from the beginning, and whether it was given up.
    fn restarts(lives_ms: impl IntoIterator<Item = u64>) -> (Vec<Duration>, bool) {
        let (beginning, mut backoff) = (Instant::now(), Backoff::default());
        let (mut began, mut restarts) = (beginning, Vec::new());
        for life in lives_ms {
            let ended = began + Duration::from_millis(life);
            let Some(pause) = backoff.pause(began, ended) else { return (restarts, true) };
            began = ended + pause;
            restarts.push(began - beginning);
        }
        (restarts, false)
    }

    fn check(lives_s: &[u64], expected_pauses_s: &[u64], expected_end: bool) {
        let (restarts, given_up) = restarts(lives_s.iter().map(|life| life * 1000));
        let mut at = Duration::ZERO;
        let pauses: Vec<u64> = restarts
            .iter()
            .zip(lives_s)
            .map(|(restart, life)| {
                let pause = *restart - at - Duration::from_secs(*life);
                at = *restart;
                pause.as_secs()
            })
            .collect();
        assert_eq!((pauses.as_slice(), given_up), (expected_pauses_s, expected_end), "{lives_s:?}");
    }

    #[test]
    fn one_that_ends_at_once_has_ten_restarts_with_growing_pauses() {
        check(&[0; 11], &[1, 2, 4, 8, 16, 30, 30, 30, 30, 30], true);
    }

    #[test]
    fn a_life_of_five_minutes_clears_the_record() {
        check(&[0, 0, 0, 300, 0, 0], &[1, 2, 4, 1, 2, 4], false);
        check(&[0, 0, 0, 299, 0, 0], &[1, 2, 4, 8, 16, 30], false);
        let twice = [[0; 10].as_slice(), &[300], &[0; 10]].concat();
        let pauses = [1, 2, 4, 8, 16, 30, 30, 30, 30, 30, 1, 2, 4, 8, 16, 30, 30, 30, 30, 30];
        check(&twice, &pauses, true);
    }

    #[test]
    fn one_that_runs_for_a_minute_each_time_is_never_given_up() {
        let pauses = [[1, 2, 4, 8, 16].as_slice(), &[30; 35]].concat();
        check(&[60; 40], &pauses, false);
    }

    proptest! {
        #[test]
        fn no_window_has_more_than_ten_restarts(lives_ms in prop::collection::vec(0..400_000_u64, 0..200)) {
            let (restarts, _) = restarts(lives_ms);
            for eleven in restarts.windows(RESTARTS + 1) {
                prop_assert!(eleven[RESTARTS] - eleven[0] >= WINDOW, "{eleven:?}");
            }
        }

        #[test]
        fn who_is_given_up_had_ten_restarts_in_a_window(lives_ms in prop::collection::vec(0..30_000_u64, 0..60)) {
            let (restarts, given_up) = restarts(lives_ms);
            if given_up {
                let last = restarts.len() - 1;
                prop_assert!(restarts[last] - restarts[last + 1 - RESTARTS] < WINDOW, "{restarts:?}");
            }
        }
    }
}
