//! How long the phases of the boot take, by CLOCK_BOOTTIME, and the lines that tell a host so. It starts no phase.

use std::time::Duration;

use crate::guest::booting::Booting;
use crate::logging;
use crate::sys::clock;

/// The clock of the phases, which follow one another without a gap.
pub struct Timeline {
    entered: Duration,
    last: Duration,
    told: bool,
    booting: Booting,
}

impl Timeline {
    /// `entered` is the uptime at PID 1's first instruction; before it was the kernel's share. Times are noted in
    /// `booting`, and if they are to be `told`, each phase is a line on the console.
    pub(super) fn from(entered: Duration, told: bool, booting: Booting) -> Timeline {
        booting.took("kernel", entered);
        Timeline { entered, last: entered, told, booting }
    }

    /// Whether a host wants to read how long things take.
    pub(super) fn is_told(&self) -> bool {
        self.told
    }

    /// Ends a phase, which began where the one before ended.
    pub(super) fn ends(&mut self, phase: &'static str) {
        let now = clock::uptime();
        let delta = now.saturating_sub(self.last);
        self.last = now;
        self.booting.took(phase, delta);
        if self.told {
            logging::profile_line(phase, delta, now.saturating_sub(self.entered));
        }
    }

    /// Ends the boot's account with its total, from PID 1's first instruction to the end of the last phase.
    pub(super) fn closes(self) -> Duration {
        let total = self.last.saturating_sub(self.entered);
        self.booting.took("total", total);
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phases_make_up_the_total_and_the_kernel_comes_before_them() {
        let booting = Booting::default();
        let entered = clock::uptime();
        let mut timeline = Timeline::from(entered, false, booting.clone());
        timeline.ends("one");
        timeline.ends("two");
        let total = timeline.closes();
        let times = booting.so_far().times;
        let names: Vec<&str> = times.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["kernel", "one", "two", "total"]);
        assert_eq!(times[0].1, entered);
        assert_eq!((times[1].1 + times[2].1, times[3].1), (total, total));
    }
}
