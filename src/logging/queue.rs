//! The lines that wait to be written: bounded, and telling what did not fit. Pure.

use std::collections::VecDeque;
use std::mem::size_of;
use std::time::Duration;

use super::format::{self, Format};

/// Bytes that may wait. A debug boot logs a fifth of it, a serial port takes 5 s for it, and PID 1 has 2 MiB.
const WAITING_MAX: usize = 64 << 10;

/// Bytes more for what hosts look for: five milestones, seven profile lines and 26 lines of the kernel's initcalls, of
/// 100 bytes at most each.
const RESERVE: usize = 4 << 10;

/// Bytes that are taken at a time: what the kernel's terminals take in one go.
const TAKEN_MAX: usize = 4 << 10;

/// How much of the room a line may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// What log lines have.
    Common,
    /// That, and what is kept free for the lines that hosts look for.
    Reserved,
}

pub(super) struct Queue {
    lines: VecDeque<String>,
    /// What the lines take, themselves and their places in the queue.
    bytes: usize,
    /// Lines that did not fit since this was last told.
    dropped: u64,
    pub(super) format: Format,
}

impl Queue {
    pub(super) const fn new() -> Queue {
        Queue { lines: VecDeque::new(), bytes: 0, dropped: 0, format: Format::Text }
    }

    /// Adds a line, or counts it as dropped. Once there is room again the count goes before the next line.
    pub(super) fn push(&mut self, line: String, room: Room, at: Duration) {
        let notice = self.notice(at);
        let more: usize = notice.iter().chain([&line]).map(size).sum();
        let most = match room {
            Room::Common => WAITING_MAX,
            Room::Reserved => WAITING_MAX + RESERVE,
        };
        if self.bytes + more > most {
            self.dropped += 1;
            return;
        }
        self.bytes += more;
        self.dropped = 0;
        self.lines.extend(notice.into_iter().chain([line]));
    }

    /// The next lines, each of them whole; `None` if there is nothing to say.
    pub(super) fn take(&mut self, at: Duration) -> Option<String> {
        let Some(mut text) = self.lines.pop_front() else {
            let notice = self.notice(at);
            self.dropped = 0;
            return notice;
        };
        self.bytes -= size(&text);
        while let Some(next) = self.lines.front().filter(|next| text.len() + next.len() <= TAKEN_MAX) {
            self.bytes -= size(next);
            text.push_str(next);
            self.lines.pop_front();
        }
        if self.lines.is_empty() {
            // What a burst has grown is not kept for the next one.
            self.lines.shrink_to(16);
        }
        Some(text)
    }

    fn notice(&self, at: Duration) -> Option<String> {
        (self.dropped > 0).then(|| format::dropped(self.format, at, self.dropped))
    }
}

#[expect(clippy::ptr_arg, reason = "it measures what is kept")]
fn size(line: &String) -> usize {
    line.len() + size_of::<String>()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AT: Duration = Duration::ZERO;

    fn filled() -> Queue {
        let mut queue = Queue::new();
        while queue.dropped == 0 {
            queue.push("a line\n".to_owned(), Room::Common, AT);
        }
        queue
    }

    fn all(queue: &mut Queue) -> String {
        std::iter::from_fn(|| queue.take(AT)).collect()
    }

    #[test]
    fn what_does_not_fit_is_counted_and_told_in_its_place() {
        let mut queue = filled();
        queue.push("lost\n".to_owned(), Room::Common, AT);
        let kept = queue.lines.len();
        queue.take(AT).unwrap();
        queue.push("after\n".to_owned(), Room::Common, AT);
        let told = all(&mut queue);
        assert!(told.ends_with("a line\nwarn log lines were dropped lines=2\nafter\n"), "{told}");
        assert!(kept > 500, "{kept}");
    }

    #[test]
    fn a_count_is_told_even_if_nothing_follows() {
        let mut queue = filled();
        let told = all(&mut queue);
        assert!(told.ends_with("a line\nwarn log lines were dropped lines=1\n"));
        assert_eq!((queue.take(AT), queue.bytes), (None, 0));
    }

    #[test]
    fn a_full_queue_takes_a_milestone() {
        let mut queue = filled();
        queue.push("milestone\n".to_owned(), Room::Reserved, AT);
        let told = all(&mut queue);
        assert!(told.ends_with("warn log lines were dropped lines=1\nmilestone\n"), "{told}");
    }

    #[test]
    fn a_line_that_is_too_long_is_dropped() {
        let mut queue = Queue::new();
        queue.push("x".repeat(WAITING_MAX + 1), Room::Common, AT);
        assert_eq!(queue.take(AT).as_deref(), Some("warn log lines were dropped lines=1\n"));
    }

    proptest! {
        #[test]
        fn no_line_is_lost_uncounted_and_the_order_is_kept(
            steps in prop::collection::vec((0_usize..20_000, any::<bool>()), 0..64)
        ) {
            let mut queue = Queue::new();
            let mut told = String::new();
            for (n, (length, take)) in steps.iter().enumerate() {
                queue.push(format!("{n} {}\n", "x".repeat(*length)), Room::Common, AT);
                prop_assert!(queue.bytes <= WAITING_MAX);
                if *take {
                    told.extend(queue.take(AT));
                }
            }
            told.push_str(&all(&mut queue));
            // Walking through what was told, the counts fill exactly the gaps.
            let mut next = 0;
            for line in told.lines() {
                match line.strip_prefix("warn log lines were dropped lines=") {
                    Some(count) => next += count.parse::<usize>().unwrap(),
                    None => {
                        prop_assert_eq!(line.split(' ').next().unwrap(), next.to_string());
                        next += 1;
                    }
                }
            }
            prop_assert_eq!(next, steps.len());
        }
    }
}
