//! runc's JSON log: why it refused.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// The end of the log is enough for its last error; a runc gone mad may have written a gigabyte.
const TAIL_BYTES: u64 = 64 * 1024;

/// The end of a line that is longer than that, for want of its message; in Go errors the cause comes last.
const REASON_BYTES: usize = 1024;

/// The message of the last line of level `error` (or `fatal`), trimmed; `None` if there is none that can be read.
/// Of a last line that is too long to be read as JSON it is the end, as it stands: runc logs why it ends last.
pub fn last_error(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    let skipped = length.saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(skipped)).ok()?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut tail).ok()?;
    parse(&tail).or_else(|| if skipped > 0 { end_of_line(&tail) } else { None })
}

/// The end of `tail` if that is one line, whose beginning is not there.
fn end_of_line(tail: &[u8]) -> Option<String> {
    let line = tail.trim_ascii();
    if line.is_empty() || line.contains(&b'\n') {
        return None;
    }
    // What is not UTF-8 is passed over: a replacement for it would take more bytes than it.
    let end = line[line.len().saturating_sub(REASON_BYTES)..].utf8_chunks();
    Some(end.map(|chunk| chunk.valid()).collect())
}

fn parse(log: &[u8]) -> Option<String> {
    log.split(|&byte| byte == b'\n').rev().find_map(|line| {
        let line: serde_json::Value = serde_json::from_slice(line).ok()?;
        let is_error = matches!(line["level"].as_str(), Some("error" | "fatal"));
        is_error.then(|| line["msg"].as_str().unwrap_or_default().trim().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{last_error, parse, REASON_BYTES, TAIL_BYTES};

    fn check(log: &str, expected: Option<&str>) {
        assert_eq!(parse(log.as_bytes()).as_deref(), expected);
    }

    #[test]
    fn the_last_error_counts() {
        check(
            "{\"level\":\"error\",\"msg\":\"first\"}\n{\"level\":\"error\",\"msg\":\" last \"}\n",
            Some("last"),
        );
        check("{\"level\":\"error\",\"msg\":\"it\"}\n{\"level\":\"warning\",\"msg\":\"no\"}\n", Some("it"));
    }

    #[test]
    fn of_a_last_line_that_is_too_long_the_end_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let long = "x".repeat(TAIL_BYTES as usize);
        for (text, expected) in [
            (format!("{{\"level\":\"error\",\"msg\":\"{long}: no such file\"}}\n"), Some("no such file\"}")),
            (format!("{{\"level\":\"error\",\"msg\":\"it\"}}\n{long} the end"), Some("x the end")),
            (format!("{long}\n{{\"level\":\"error\",\"msg\":\"it\"}}\n"), Some("it")),
            (format!("{long}\n{{\"level\":\"warning\",\"msg\":\"it\"}}\n"), None),
            ("\n".repeat(2 * TAIL_BYTES as usize), None),
        ] {
            fs::write(&log, text).unwrap();
            let reason = last_error(&log);
            assert!(reason.as_ref().is_none_or(|reason| reason.len() <= REASON_BYTES));
            let is_expected = match expected {
                Some(end) => reason.as_ref().is_some_and(|reason| reason.ends_with(end)),
                None => reason.is_none(),
            };
            assert!(is_expected, "{reason:?}");
        }
    }

    #[test]
    fn what_is_no_json_is_passed_over() {
        check("", None);
        check("panic: no json\n{\"level\":\"error\"", None);
        check("half a li\n{\"level\":\"error\",\"msg\":\"it\"}\ngarbage", Some("it"));
    }
}
