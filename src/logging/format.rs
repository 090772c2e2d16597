//! The form of a log line: an event as text, or as one JSON object. Pure.

use std::fmt::{self, Write as _};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::Event;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `level message key=value ...`
    Text,
    /// `{"time_us":...,"level":"...","msg":"...","key":...}`; the time is CLOCK_BOOTTIME in µs, as in the milestones.
    Json,
}

/// The names of the formats.
pub const FORMATS: [(&str, Format); 2] = [("text", Format::Text), ("json", Format::Json)];

/// An event as a line, its newline included.
pub(super) fn line(format: Format, at: Duration, event: &Event<'_>) -> String {
    let mut parts = Parts { format, message: String::new(), fields: String::new() };
    event.record(&mut parts);
    let level = event.metadata().level().as_str().to_ascii_lowercase();
    parts.line(at, &level)
}

/// The line that stands where others were dropped.
pub(super) fn dropped(format: Format, at: Duration, lines: u64) -> String {
    let mut parts = Parts { format, message: "log lines were dropped".to_owned(), fields: String::new() };
    parts.plain("lines", lines);
    parts.line(at, "warn")
}

struct Parts {
    format: Format,
    /// Escaped as the format wants it.
    message: String,
    /// Each with what separates it from what stands before it.
    fields: String,
}

impl Visit for Parts {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field.name(), value);
    }

    /// Nothing here is measured in fractions; to write one would take 10 kB of code.
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.plain(field.name(), value as i64);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field.name(), value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field.name(), value);
    }

    fn record_error(&mut self, field: &Field, error: &(dyn std::error::Error + 'static)) {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            // Writing to a String cannot fail.
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        self.text(field.name(), &text);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field.name(), &format!("{value:?}"));
    }
}

impl Parts {
    fn line(self, at: Duration, level: &str) -> String {
        let Parts { format, message, fields } = self;
        match format {
            Format::Text => format!("{level} {message}{fields}\n"),
            Format::Json => {
                let time_us = at.as_micros();
                format!("{{\"time_us\":{time_us},\"level\":\"{level}\",\"msg\":\"{message}\"{fields}}}\n")
            }
        }
    }

    /// A value that needs no quotes in either format.
    fn plain(&mut self, name: &str, value: impl fmt::Display) {
        // Writing to a String cannot fail.
        let _ = match self.format {
            Format::Text => write!(self.fields, " {name}={value}"),
            Format::Json => write!(self.fields, ",\"{name}\":{value}"),
        };
    }

    fn text(&mut self, name: &str, value: &str) {
        match self.format {
            Format::Text if name == "message" => self.message.extend(value.chars().flat_map(printable)),
            Format::Text if is_plain(value) => self.plain(name, value),
            Format::Text => self.plain(name, format_args!("{value:?}")),
            Format::Json if name == "message" => escape(&mut self.message, value),
            Format::Json => {
                // Writing to a String cannot fail.
                let _ = write!(self.fields, ",\"{name}\":\"");
                escape(&mut self.fields, value);
                self.fields.push('"');
            }
        }
    }
}

fn is_plain(value: &str) -> bool {
    !value.is_empty() && value.chars().all(|c| c.is_ascii_graphic() && c != '"' && c != '=')
}

/// Control characters are escaped, so that one event is one line and no text of a guest drives a terminal.
fn printable(c: char) -> impl Iterator<Item = char> {
    let escaped = c.is_control().then(|| c.escape_default());
    let plain = (!c.is_control()).then_some(c);
    escaped.into_iter().flatten().chain(plain)
}

/// Writes the inside of a JSON string (RFC 8259 section 7). Of the control characters JSON allows some as they are; they
/// are escaped all the same, for the terminal's sake.
fn escape(json: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            // None of them is beyond the four digits. Writing to a String cannot fail.
            c if c.is_control() => drop(write!(json, "\\u{:04x}", u32::from(c))),
            c => json.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;
    use serde_json::{json, Value};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Metadata, Subscriber};

    use super::*;

    /// Keeps the lines in place of writing them.
    struct Kept(Format, Arc<Mutex<Vec<String>>>);

    impl Subscriber for Kept {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            self.1.lock().unwrap().push(line(self.0, Duration::from_millis(7), event));
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    fn lines(format: Format, log: impl FnOnce()) -> Vec<String> {
        let kept = Arc::new(Mutex::new(Vec::new()));
        tracing::subscriber::with_default(Kept(format, kept.clone()), log);
        let lines = kept.lock().unwrap().clone();
        lines
    }

    fn two_events() {
        tracing::info!(container = "c1", pid = 7, "started");
        tracing::warn!(error = %"no such\nfile", empty = "", "two\nlines \x1b[0m");
    }

    #[test]
    fn an_event_is_one_line_with_its_fields() {
        let expected = [
            "info started container=c1 pid=7\n",
            "warn two\\nlines \\u{1b}[0m error=\"no such\\nfile\" empty=\"\"\n",
        ];
        assert_eq!(lines(Format::Text, two_events), expected);
        let expected = [
            "{\"time_us\":7000,\"level\":\"info\",\"msg\":\"started\",\"container\":\"c1\",\"pid\":7}\n",
            "{\"time_us\":7000,\"level\":\"warn\",\"msg\":\"two\\u000alines \\u001b[0m\",\
             \"error\":\"no such\\u000afile\",\"empty\":\"\"}\n",
        ];
        assert_eq!(lines(Format::Json, two_events), expected);
    }

    #[test]
    fn an_error_is_written_with_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("read config")]
        struct Outer(#[source] std::io::Error);
        let error = Outer(std::io::Error::from_raw_os_error(2));
        let error: &(dyn std::error::Error + 'static) = &error;
        let logged = lines(Format::Text, || tracing::info!(error, "failed"));
        assert_eq!(logged, ["info failed error=\"read config: No such file or directory (os error 2)\"\n"]);
    }

    #[test]
    fn the_count_of_dropped_lines_is_a_line_of_the_format() {
        let at = Duration::from_secs(1);
        assert_eq!(dropped(Format::Text, at, 3), "warn log lines were dropped lines=3\n");
        let line: Value = serde_json::from_str(&dropped(Format::Json, at, 3)).unwrap();
        let expected =
            json!({"time_us": 1_000_000, "level": "warn", "msg": "log lines were dropped", "lines": 3});
        assert_eq!(line, expected);
    }

    proptest! {
        #[test]
        fn every_json_line_parses_and_gives_the_fields_back(
            message: String, text: String, number: i64, count: u64, truth: bool
        ) {
            let logged = lines(Format::Json, || {
                tracing::error!(text, shown = %text, number, count, truth, "{message}");
            });
            let [line] = &logged[..] else { panic!("one event, not {logged:?}") };
            prop_assert!(!line.trim_end_matches('\n').contains(char::is_control), "{}", line);
            let expected = json!({
                "time_us": 7_000, "level": "error", "msg": message, "text": text, "shown": text,
                "number": number, "count": count, "truth": truth,
            });
            prop_assert_eq!(serde_json::from_str::<Value>(line).unwrap(), expected);
        }

        #[test]
        fn every_text_line_is_one_line(message: String, text: String) {
            let logged = lines(Format::Text, || tracing::error!(text, "{message}"));
            prop_assert!(!logged[0].trim_end_matches('\n').contains(char::is_control), "{:?}", logged);
        }
    }
}
