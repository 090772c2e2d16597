//! Log lines and boot milestones, one line per event to fd 2. In PID 1 that is the console.
//!
//! Logging never ends or delays the program: what the console does not take in time is dropped, and a line that
//! cannot be written is forgotten. Spans are not supported; a line carries its context in its own fields.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::sys::{clock, console};

/// Sends all log events of the process to fd 2, those of level debug only if `debug`. Only the first call counts.
pub fn init(debug: bool) {
    let level = if debug { LevelFilter::DEBUG } else { LevelFilter::INFO };
    // The one error is that a subscriber is there already, which is what is wanted.
    let _ = tracing::subscriber::set_global_default(Lines { level });
}

/// Writes the line that tells a host how far the boot has come, whatever the log level.
///
/// Hosts look for it with `VMINITD_READY uptime_us=(\d+) phase=(\S+)`; the time is CLOCK_BOOTTIME in µs.
pub fn milestone(phase: &str) {
    let uptime_us = clock::uptime().as_micros();
    console::write_line(&format!("VMINITD_READY uptime_us={uptime_us} phase={phase}\n"));
}

struct Lines {
    level: LevelFilter,
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
        console::write_line(&line(event));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// `level message key=value ...` and a newline.
fn line(event: &Event<'_>) -> String {
    let mut parts = Parts::default();
    event.record(&mut parts);
    let level = event.metadata().level().as_str().to_ascii_lowercase();
    format!("{level} {}{}\n", parts.message, parts.fields)
}

#[derive(Default)]
struct Parts {
    message: String,
    fields: String,
}

impl Visit for Parts {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, value);
    }

    fn record_error(&mut self, field: &Field, error: &(dyn std::error::Error + 'static)) {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            // Writing to a String cannot fail.
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        self.push(field, &text);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, &format!("{value:?}"));
    }
}

impl Parts {
    fn push(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.extend(value.chars().flat_map(printable));
            return;
        }
        let plain = !value.is_empty() && value.chars().all(|c| c.is_ascii_graphic() && c != '"' && c != '=');
        // Writing to a String cannot fail.
        let _ = match plain {
            true => write!(self.fields, " {}={value}", field.name()),
            false => write!(self.fields, " {}={value:?}", field.name()),
        };
    }
}

/// Control characters are escaped, so that one event is one line and no text of a guest drives a terminal.
fn printable(c: char) -> impl Iterator<Item = char> {
    let escaped = c.is_control().then(|| c.escape_default());
    let plain = (!c.is_control()).then_some(c);
    escaped.into_iter().flatten().chain(plain)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Keeps the lines in place of writing them.
    struct Kept(Lines, Arc<Mutex<Vec<String>>>);

    impl Subscriber for Kept {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            self.0.enabled(metadata)
        }
        fn new_span(&self, span: &Attributes<'_>) -> Id {
            self.0.new_span(span)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            self.1.lock().unwrap().push(line(event));
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    fn lines(level: LevelFilter, log: impl FnOnce()) -> Vec<String> {
        let kept = Arc::new(Mutex::new(Vec::new()));
        tracing::subscriber::with_default(Kept(Lines { level }, kept.clone()), log);
        let lines = kept.lock().unwrap().clone();
        lines
    }

    #[test]
    fn an_event_is_one_line_with_its_fields() {
        let logged = lines(LevelFilter::INFO, || {
            tracing::info!(container = "c1", pid = 7, "started");
            tracing::warn!(error = %"no such\nfile", empty = "", "two\nlines \x1b[0m");
        });
        let expected = [
            "info started container=c1 pid=7\n",
            "warn two\\nlines \\u{1b}[0m error=\"no such\\nfile\" empty=\"\"\n",
        ];
        assert_eq!(logged, expected);
    }

    #[test]
    fn debug_lines_are_written_only_when_asked_for() {
        assert_eq!(lines(LevelFilter::INFO, || tracing::debug!("quiet")).len(), 0);
        assert_eq!(lines(LevelFilter::DEBUG, || tracing::debug!("loud")), ["debug loud\n"]);
    }

    #[test]
    fn an_error_is_written_with_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("read config")]
        struct Outer(#[source] std::io::Error);
        let error = Outer(std::io::Error::from_raw_os_error(2));
        let error: &(dyn std::error::Error + 'static) = &error;
        let logged = lines(LevelFilter::INFO, || tracing::info!(error, "failed"));
        assert_eq!(logged, ["info failed error=\"read config: No such file or directory (os error 2)\"\n"]);
    }
}
