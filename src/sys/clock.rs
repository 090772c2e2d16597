//! The clocks that std does not read, and the setting of the one that can be set.

use std::io;
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::time::{clock_gettime, clock_settime, ClockId};

/// Time since the kernel started, suspended time included (CLOCK_BOOTTIME); zero if the kernel lacks the clock.
pub fn uptime() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}

/// The wall clock, since 1970 (CLOCK_REALTIME), which the kernel never sets to a time before.
pub fn wall() -> Duration {
    clock_gettime(ClockId::CLOCK_REALTIME).map(Duration::from).unwrap_or_default()
}

/// Sets the wall clock, since 1970. No timer of ours notices: they count CLOCK_MONOTONIC.
///
/// # Errors
/// Those of clock_settime(2): `EPERM` without CAP_SYS_TIME, `EINVAL` for a time before the kernel's start in 1970.
pub fn set_wall(to: Duration) -> io::Result<()> {
    Ok(clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::from(to))?)
}
