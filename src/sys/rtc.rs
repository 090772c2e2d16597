//! The machine's real-time clock, as rtc(4) and the `rtc` class of sysfs show it. It counts whole seconds, of UTC.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::poll::{poll, PollFd, PollFlags, PollTimeout};

/// Seconds since 1970 (Documentation/admin-guide/rtc.rst in the kernel).
const SINCE_EPOCH: &str = "/sys/class/rtc/rtc0/since_epoch";

/// One process at a time may have it open.
const DEVICE: &str = "/dev/rtc0";

/// Reads the second it stands at, since 1970. Blocks for some milliseconds at most, while the clock is being updated.
///
/// # Errors
/// `ENOENT` if the machine has no such clock.
pub fn seconds() -> io::Result<u64> {
    let text = fs::read_to_string(SINCE_EPOCH)?;
    text.trim().parse().map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Interrupts at each new second, for as long as this lives.
pub struct Ticks(File);

impl Ticks {
    /// # Errors
    /// `EBUSY` if another process has the clock open, `EINVAL` if this clock has no interrupts.
    pub fn start() -> io::Result<Ticks> {
        let device = File::open(DEVICE)?;
        // SAFETY: the request takes no argument, and the descriptor is open.
        unsafe { uie_on(device.as_raw_fd()) }?;
        Ok(Ticks(device))
    }

    /// Waits for the next one. False if it does not come within `limit`.
    pub fn next(&self, limit: Duration) -> io::Result<bool> {
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        Ok(poll(&mut fds, limit)? > 0)
    }
}

// RTC_UIE_ON of linux/rtc.h. Closing the device undoes it.
nix::ioctl_none!(uie_on, b'p', 0x03);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock;

    #[test]
    fn a_machine_has_a_clock_that_runs_or_none() {
        match seconds() {
            Ok(second) => {
                let wall = clock::wall().as_secs();
                // In local time it may be half a day off.
                assert!(second.abs_diff(wall) < 86_400, "{second} at {wall}");
            }
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::NotFound),
        }
    }
}
