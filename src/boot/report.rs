//! What went wrong in the boot, and how long its phases took, for whoever asks afterwards. Bounded; it logs nothing.

use std::fmt::Display;

use super::timeline::Timeline;
use crate::sys::rlimit::Limit;

/// Failures that are kept word for word. An image with this many has one cause for all of them, which is among the
/// first.
const KEPT: usize = 64;

/// Bytes of one: a path and the kernel's words for an error fit, and 64 of them are far below a frame.
const LONGEST: usize = 256;

/// What the rest of the guest must know about how the boot went.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The root could not be moved off the initramfs: `pivot_root` fails, and `runc` needs `--no-pivot`.
    pub no_pivot: bool,
    /// RLIMIT_NOFILE that PID 1 was started with, which is what its children get; none if it was not changed.
    pub nofile_at_start: Option<Limit>,
    /// What went wrong; each was logged.
    pub failures: Failures,
    /// How long the phases took.
    pub timeline: Timeline,
}

/// The failures of the boot's steps, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failures {
    kept: Vec<String>,
    further: usize,
}

impl Failures {
    pub(super) fn add(&mut self, step: &str, what: impl Display, error: &dyn Display) {
        if self.kept.len() == KEPT {
            self.further += 1;
            return;
        }
        let mut line = format!("{step} {what}: {error}");
        shorten(&mut line);
        self.kept.push(line);
    }

    /// One line for each, `step what: error`, and one for those that were too many.
    pub fn lines(&self) -> Vec<String> {
        let more = (self.further > 0).then(|| format!("and {} more", self.further));
        self.kept.iter().cloned().chain(more).collect()
    }
}

/// Cuts a line at the last character that ends within [`LONGEST`].
fn shorten(line: &mut String) {
    let end = (0..=LONGEST).rev().find(|at| line.is_char_boundary(*at));
    if line.len() > LONGEST {
        line.truncate(end.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures(count: usize, what: &str) -> Vec<String> {
        let mut failures = Failures::default();
        for _ in 0..count {
            failures.add("step", what, &std::io::ErrorKind::NotFound);
        }
        failures.lines()
    }

    #[test]
    fn a_failure_is_told_with_its_step_and_its_cause() {
        assert_eq!(failures(1, "/dev/fuse"), ["step /dev/fuse: entity not found"]);
        assert_eq!(failures(0, ""), Vec::<String>::new());
    }

    #[test]
    fn what_is_beyond_the_bounds_is_counted_and_cut() {
        let lines = failures(KEPT + 2, "x");
        assert_eq!((lines.len(), lines[KEPT].as_str()), (KEPT + 1, "and 2 more"));
        // Two bytes each, and the first of them at an odd place.
        let long = failures(1, &"é".repeat(LONGEST));
        assert_eq!(long[0].len(), LONGEST - 1);
    }
}
