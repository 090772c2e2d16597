//! The exits that have to be told: one for each process that ran, with the status that its worker knows. Pure.

use std::collections::BTreeMap;

use vminit_shim::client::{Event, INIT};

/// What is owed until the next checkpoint.
#[derive(Debug, Default)]
pub struct Ledger {
    /// By container and process; an init goes by the container's id, as in its exit.
    owed: BTreeMap<(String, String), u32>,
}

impl Ledger {
    /// This process runs, and will end so.
    pub fn owe(&mut self, container: &str, exec_id: &str, status: u32) {
        let process = if exec_id == INIT { container } else { exec_id };
        let before = self.owed.insert((container.into(), process.into()), status);
        assert!(before.is_none(), "two processes are {container}/{exec_id}: workers have ids of their own");
    }

    /// Holds what was told against what is owed; gives a complaint for each difference.
    pub fn settle(mut self, told: &[Event]) -> Vec<String> {
        let mut complaints = Vec::new();
        for event in told {
            let Event::Exit { container_id, id, status, .. } = event else { continue };
            match self.owed.remove(&(container_id.clone(), id.clone())) {
                Some(owed) if owed == *status => {}
                Some(owed) => complaints.push(format!("{container_id}/{id}: told {status}, owed {owed}")),
                None => complaints
                    .push(format!("{container_id}/{id}: told {status}, which is not owed or told twice")),
            }
        }
        let missing = self.owed.into_iter();
        complaints.extend(
            missing.map(|((container, id), status)| format!("{container}/{id}: {status} was not told")),
        );
        complaints
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn exit(id: &str, status: u32) -> Event {
        let (container_id, id) = ("c".to_owned(), id.to_owned());
        Event::Exit { container_id, id, pid: 7, status, exited_at: UNIX_EPOCH }
    }

    #[track_caller]
    fn check(told: &[Event], complaints: &[&str]) {
        let mut ledger = Ledger::default();
        ledger.owe("c", INIT, 137);
        ledger.owe("c", "e", 3);
        assert_eq!(ledger.settle(told), complaints);
    }

    #[test]
    fn what_is_owed_is_told_once() {
        check(&[exit("e", 3), Event::Oom { container_id: "c".into() }, exit("c", 137)], &[]);
    }

    #[test]
    fn a_wrong_a_missing_and_a_second_exit_are_found() {
        check(&[exit("e", 3)], &["c/c: 137 was not told"]);
        check(&[exit("e", 4), exit("c", 137)], &["c/e: told 4, owed 3"]);
        let twice = "c/e: told 3, which is not owed or told twice";
        check(&[exit("e", 3), exit("e", 3), exit("c", 137)], &[twice]);
        let stranger = "c/x: told 0, which is not owed or told twice";
        check(&[exit("x", 0), exit("e", 3), exit("c", 137)], &[stranger]);
    }
}
