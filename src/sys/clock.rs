//! The clocks that std does not read.

use std::time::Duration;

use nix::time::{clock_gettime, ClockId};

/// Time since the kernel started, suspended time included (CLOCK_BOOTTIME); zero if the kernel lacks the clock.
pub fn uptime() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}
