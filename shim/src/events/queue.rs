//! The events that wait to be forwarded, bounded. Owns what is dropped when there are too many; never forwards one.

use std::collections::VecDeque;

use vminitd_api::containerd::shim::event::Envelope;
use vminitd_api::containerd::topics::TASK_EXIT_EVENT_TOPIC;

/// Events that are kept while containerd is away: as many as containerd's own shims keep. A container with a health
/// check each second makes this many in some eleven minutes.
const QUEUE_MAX: usize = 2048;

/// A queue of at most [`QUEUE_MAX`] events.
#[derive(Debug, Default)]
pub(super) struct Queue {
    events: VecDeque<Envelope>,
}

impl Queue {
    /// Puts an event last. If there is no room, the oldest one that is no exit is dropped for it, else the oldest, and
    /// given: a client waits for exits, and learns the rest by asking.
    pub(super) fn push(&mut self, event: Envelope) -> Option<Envelope> {
        self.events.push_back(event);
        if self.events.len() <= QUEUE_MAX {
            return None;
        }
        let victim = self.events.iter().position(|event| event.topic != TASK_EXIT_EVENT_TOPIC);
        self.events.remove(victim.unwrap_or(0))
    }

    /// Takes the oldest.
    pub(super) fn pop(&mut self) -> Option<Envelope> {
        self.events.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(topic: &str, namespace: &str) -> Envelope {
        Envelope { topic: topic.into(), namespace: namespace.into(), ..Default::default() }
    }

    fn full_of(topic: &str) -> Queue {
        let mut queue = Queue::default();
        for at in 0..QUEUE_MAX {
            assert_eq!(queue.push(event(topic, &at.to_string())), None);
        }
        queue
    }

    #[test]
    fn a_full_queue_drops_the_oldest() {
        let mut queue = full_of("/tasks/paused");
        let dropped = queue.push(event("/tasks/exit", "new")).unwrap();
        assert_eq!((dropped.topic.as_str(), dropped.namespace.as_str()), ("/tasks/paused", "0"));
        assert_eq!(queue.pop().unwrap().namespace, "1");
        assert_eq!(queue.events.len(), QUEUE_MAX - 1);
    }

    #[test]
    fn exits_are_the_last_to_be_dropped() {
        let mut queue = full_of("/tasks/exit");
        assert_eq!(queue.push(event("/tasks/oom", "new")).unwrap().topic, "/tasks/oom");
        assert_eq!(queue.push(event("/tasks/exit", "new")).unwrap().namespace, "0");
        assert_eq!(queue.pop().unwrap().namespace, "1");
    }
}
