//! runc's JSON log: why it refused.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// The end of the log is enough for its last error; a runc gone mad may have written a gigabyte.
const TAIL_BYTES: u64 = 64 * 1024;

/// The message of the last line of level `error` (or `fatal`), trimmed; `None` if there is none that can be read.
pub fn last_error(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES))).ok()?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut tail).ok()?;
    parse(&tail)
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
    use super::parse;

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
    fn what_is_no_json_is_passed_over() {
        check("", None);
        check("panic: no json\n{\"level\":\"error\"", None);
        check("half a li\n{\"level\":\"error\",\"msg\":\"it\"}\ngarbage", Some("it"));
    }
}
