//! The ledger against the three cases of its decision (docs/ARCHITECTURE.md, "Invariants").

use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;
use crate::reaper::Exit;

const RUNC: i32 = 100;
const INIT: i32 = 101;

fn pid(n: i32) -> Pid {
    Pid::new(n).expect("positive")
}

fn exit(code: u8) -> Reaped {
    Reaped { exit: Exit::Code(code), at: SystemTime::UNIX_EPOCH + Duration::from_secs(code.into()) }
}

/// A ledger in which RUNC was forked, its window opened, and then these exits were reaped in order.
fn after(exits: &[(i32, u8)]) -> (Ledger<&'static str>, WindowId) {
    let mut ledger = Ledger::new();
    ledger.register(pid(RUNC), "runc");
    let window = ledger.open(pid(RUNC));
    for &(n, code) in exits {
        ledger.reaped(pid(n), exit(code));
    }
    (ledger, window)
}

fn check(exits: &[(i32, u8)], is_child: bool, expected: Claim<&'static str>) {
    let (mut ledger, window) = after(exits);
    assert_eq!(ledger.claim(window, pid(INIT), "init", |_| is_child), expected);
    assert!(ledger.kept.is_empty(), "a closed window leaves nothing behind");
}

#[test]
fn case_a_an_exit_reaped_after_runc_is_the_one() {
    check(&[(RUNC, 0), (INIT, 7)], false, Claim::Dead("init", exit(7)));
}

/// The wrong container was told of an exit: containerd/containerd#5630, #13049.
#[test]
fn case_a_the_first_exit_after_runc_wins_over_that_of_a_recycled_pid() {
    check(&[(RUNC, 0), (INIT, 7), (INIT, 9)], true, Claim::Dead("init", exit(7)));
}

#[test]
fn case_a_an_exit_before_runc_was_that_of_an_earlier_owner_of_the_pid() {
    check(&[(INIT, 1), (RUNC, 0), (INIT, 7)], false, Claim::Dead("init", exit(7)));
}

#[test]
fn case_b_a_child_not_reaped_is_alive_whatever_happened_to_its_number_before() {
    check(&[(INIT, 1), (RUNC, 0)], true, Claim::Alive);
    check(&[(RUNC, 0)], true, Claim::Alive);
}

#[test]
fn case_c_an_exit_reported_before_runc_itself_is_not_lost() {
    check(&[(INIT, 7), (RUNC, 0)], false, Claim::Dead("init", exit(7)));
}

#[test]
fn case_c_the_last_exit_before_runc_wins() {
    check(&[(INIT, 1), (INIT, 7), (RUNC, 0)], false, Claim::Dead("init", exit(7)));
}

#[test]
fn a_pid_that_was_never_ours_is_unknown() {
    check(&[(RUNC, 0), (102, 7)], false, Claim::Unknown);
}

#[test]
fn a_pid_somebody_else_waits_for_is_not_given_away() {
    let (mut ledger, window) = after(&[(RUNC, 0)]);
    ledger.register(pid(INIT), "other");
    assert_eq!(ledger.claim(window, pid(INIT), "init", |_| true), Claim::Unknown);
    assert_eq!(ledger.reaped(pid(INIT), exit(0)), Some("other"));
}

#[test]
fn exits_are_kept_only_while_a_window_is_open() {
    let mut ledger: Ledger<&str> = Ledger::new();
    ledger.reaped(pid(INIT), exit(0));
    assert!(ledger.kept.is_empty());
    ledger.register(pid(RUNC), "runc");
    let window = ledger.open(pid(RUNC));
    ledger.reaped(pid(INIT), exit(0));
    ledger.close(window);
    assert!(ledger.kept.is_empty());
}

#[test]
fn a_window_does_not_see_exits_from_before_it_was_opened() {
    let mut ledger = Ledger::new();
    ledger.register(pid(50), "runc of another");
    let other = ledger.open(pid(50));
    ledger.reaped(pid(INIT), exit(1));
    ledger.register(pid(RUNC), "runc");
    let window = ledger.open(pid(RUNC));
    ledger.reaped(pid(RUNC), exit(0));
    assert_eq!(ledger.claim(window, pid(INIT), "init", |_| false), Claim::Unknown);
    assert_eq!(ledger.claim(other, pid(INIT), "other's", |_| false), Claim::Dead("other's", exit(1)));
}

#[test]
fn the_number_of_kept_exits_is_bounded() {
    let (mut ledger, _window) = after(&[]);
    for _ in 0..KEPT_MAX + 10 {
        ledger.reaped(pid(INIT), exit(0));
    }
    assert_eq!(ledger.kept.len(), KEPT_MAX);
}

/// One thing that may happen between the fork of a runc and the claim.
#[derive(Debug, Clone, Copy)]
enum Happening {
    /// A process that had INIT's number before, or gets it later, is reaped.
    Stranger,
    RuncReaped,
    InitReaped,
    Noise(i32),
}

fn happenings() -> impl Strategy<Value = (Vec<Happening>, bool)> {
    let noise = prop::collection::vec((200..210i32).prop_map(Happening::Noise), 0..6);
    (0..3usize, any::<bool>(), any::<bool>(), noise, any::<u64>()).prop_map(
        |(strangers, dies, early, noise, seed)| {
            // The number is INIT's from before runc ends, so a stranger's exit comes before INIT's own, and before runc's.
            let mut all = vec![Happening::Stranger; strangers];
            if dies && early {
                all.push(Happening::InitReaped);
            }
            all.push(Happening::RuncReaped);
            if dies && !early {
                all.push(Happening::InitReaped);
            }
            for (n, happening) in noise.into_iter().enumerate() {
                all.insert((seed as usize).wrapping_add(n * 7) % (all.len() + 1), happening);
            }
            (all, dies)
        },
    )
}

proptest! {
    #[test]
    fn a_claim_always_yields_the_exit_of_the_process_that_runc_left_behind((happenings, dies) in happenings()) {
        let (mut ledger, window) = after(&[]);
        for happening in happenings {
            match happening {
                Happening::Stranger => ledger.reaped(pid(INIT), exit(1)),
                Happening::InitReaped => ledger.reaped(pid(INIT), exit(7)),
                Happening::RuncReaped => ledger.reaped(pid(RUNC), exit(0)),
                Happening::Noise(n) => ledger.reaped(pid(n), exit(9)),
            };
        }
        let expected = if dies { Claim::Dead("init", exit(7)) } else { Claim::Alive };
        prop_assert_eq!(ledger.claim(window, pid(INIT), "init", |_| !dies), expected);
    }
}
