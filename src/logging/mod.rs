//! Log lines, boot milestones and profile lines, one line per event to fd 2. In PID 1 that is the console.
//!
//! Logging never ends or delays the program: a line waits in a bounded [`queue`] for the one thread that writes, and
//! what the console is too slow for is dropped and counted. Spans are not supported; a line carries its context in its
//! own fields.

mod format;
mod queue;
mod writer;

use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

pub use format::{Format, FORMATS};
use queue::Room;

use crate::sys::clock;

/// How long [`flush`] waits. A serial port at 115,200 baud takes 23 KiB in that time, and a console that takes nothing
/// must not hold up the end.
const FLUSH_MAX: Duration = Duration::from_secs(2);

/// Begins to write, what was logged before included, and sends all log events of the process to fd 2, those of level
/// debug only if `debug`. A panic becomes a log line too. Only the first call counts. It starts a thread.
pub fn init(debug: bool, format: Format) {
    let level = if debug { LevelFilter::DEBUG } else { LevelFilter::INFO };
    // The one error is that a subscriber is there already, which is what is wanted.
    if tracing::subscriber::set_global_default(Lines { level, format }).is_ok() {
        // The default hook writes to the console itself, and would wait for it.
        std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
        writer::start(format);
    }
}

/// Waits until all that was logged is on its way to whoever reads fd 2, for 2 s at most. For the way down.
pub fn flush() {
    writer::flush(FLUSH_MAX);
}

/// Writes the line that tells a host how far the boot has come, whatever the log level and format.
///
/// Hosts look for it with `VMINITD_READY uptime_us=(\d+) phase=(\S+)`; the time is CLOCK_BOOTTIME in µs, of this call.
pub fn milestone(phase: &str) {
    let uptime_us = clock::uptime().as_micros();
    console_line(format!("VMINITD_READY uptime_us={uptime_us} phase={phase}"));
}

/// Writes how long a phase of the boot took, and how long after PID 1's first instruction it ended, whatever the log
/// level and format. spinbox's host asks for these lines, and for this form of them.
pub fn profile_line(phase: &str, delta: Duration, total: Duration) {
    let (delta_us, total_us) = (delta.as_micros(), total.as_micros());
    console_line(format!("VMINITD_PROFILE {phase} delta_us={delta_us} total_us={total_us}"));
}

/// Writes a line that a host reads, whatever the log level and format. There are at most 38 of them in a boot.
pub fn console_line(mut line: String) {
    line.push('\n');
    writer::push(line, Room::Reserved);
}

struct Lines {
    level: LevelFilter,
    format: Format,
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        // All spans share one id: nothing is kept about them.
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        writer::push(format::line(self.format, clock::uptime(), event), Room::Common);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
