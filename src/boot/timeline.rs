//! How long the phases of the boot take, by CLOCK_BOOTTIME, and the lines that tell a host so. It starts no phase.

use std::time::Duration;

use crate::logging;
use crate::sys::clock;

/// The phases from PID 1's first instruction to serving. Phases follow one another without a gap.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    entered: Duration,
    last: Duration,
    told: bool,
    phases: Vec<(&'static str, Duration)>,
}

impl Timeline {
    /// `entered` is the uptime at PID 1's first instruction. If it is to be `told`, each phase is a line on the console.
    pub(super) fn from(entered: Duration, told: bool) -> Timeline {
        Timeline { entered, last: entered, told, phases: Vec::new() }
    }

    /// Whether a host wants to read how long things take.
    pub fn is_told(&self) -> bool {
        self.told
    }

    /// Ends a phase, which began where the one before ended.
    pub fn ends(&mut self, phase: &'static str) {
        let now = clock::uptime();
        let delta = now.saturating_sub(self.last);
        self.last = now;
        self.phases.push((phase, delta));
        if self.told {
            logging::profile_line(phase, delta, now.saturating_sub(self.entered));
        }
    }

    /// The kernel's share, each phase, and the total from PID 1's first instruction until now.
    pub fn times(&self) -> Vec<(&'static str, Duration)> {
        let total = clock::uptime().saturating_sub(self.entered);
        let mut times = vec![("kernel", self.entered)];
        times.extend(&self.phases);
        times.push(("total", total));
        times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phases_and_the_kernel_make_up_the_total() {
        let mut timeline = Timeline::from(clock::uptime(), false);
        timeline.ends("one");
        timeline.ends("two");
        let times = timeline.times();
        let names: Vec<&str> = times.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["kernel", "one", "two", "total"]);
        assert!(times[1].1 + times[2].1 <= times[3].1);
    }
}
