//! What the replay promises its subscribers, as examples and as a property.

use std::time::SystemTime;

use proptest::prelude::*;

use super::super::Happening;
use super::*;

const CAPACITY: usize = 4_096;

fn event(n: u32, exit: bool) -> Event {
    let at = SystemTime::UNIX_EPOCH;
    let what = match exit {
        true => Happening::Exited { id: "c".into(), pid: n, status: 0, at },
        false => Happening::Started { pid: n },
    };
    Event { at, namespace: "default".into(), container: "c".into(), what }
}

fn number(event: &Event) -> u32 {
    match event.what {
        Happening::Started { pid } | Happening::Exited { pid, .. } => pid,
        ref other => panic!("not made here: {other:?}"),
    }
}

/// Reads and writes everything there is.
fn drain(replay: &mut Replay, id: SubscriberId) -> Vec<u32> {
    let mut got = Vec::new();
    while let Next::Event(event) = replay.next(id) {
        replay.written(id, &event);
        got.push(number(&event));
    }
    got
}

#[test]
fn events_from_before_the_first_subscriber_are_not_lost() {
    let mut replay = Replay::new(CAPACITY);
    (0..5).for_each(|n| drop(replay.push(event(n, false))));
    let id = replay.subscribe();
    assert_eq!(drain(&mut replay, id), [0, 1, 2, 3, 4]);
}

#[test]
fn an_event_whose_write_failed_goes_to_the_next_subscriber() {
    let mut replay = Replay::new(CAPACITY);
    let first = replay.subscribe();
    (0..3).for_each(|n| drop(replay.push(event(n, false))));
    let Next::Event(written) = replay.next(first) else { panic!("there is an event") };
    replay.written(first, &written);
    assert!(matches!(replay.next(first), Next::Event(_)));
    replay.unsubscribe(first);
    let second = replay.subscribe();
    assert_eq!(drain(&mut replay, second), [1, 2]);
}

#[test]
fn each_of_several_subscribers_gets_every_event() {
    let mut replay = Replay::new(CAPACITY);
    let (a, b) = (replay.subscribe(), replay.subscribe());
    (0..3).for_each(|n| drop(replay.push(event(n, false))));
    assert_eq!(drain(&mut replay, a), [0, 1, 2]);
    assert_eq!(drain(&mut replay, b), [0, 1, 2]);
    assert!(replay.log.is_empty(), "what everybody got is forgotten");
}

#[test]
fn a_subscriber_that_does_not_read_is_cut_off_and_its_events_go_to_the_next() {
    let mut replay = Replay::new(CAPACITY);
    let stuck = replay.subscribe();
    let all = LAG_MAX as u32 + 1;
    (0..all).for_each(|n| drop(replay.push(event(n, false))));
    assert_eq!(replay.next(stuck), Next::CutOff);
    let next = replay.subscribe();
    assert_eq!(drain(&mut replay, next), (0..all).collect::<Vec<_>>());
}

#[test]
fn a_subscriber_that_finds_a_long_backlog_is_not_cut_off_for_it() {
    let mut replay = Replay::new(CAPACITY);
    let backlog = LAG_MAX as u32 * 2;
    (0..backlog).for_each(|n| drop(replay.push(event(n, false))));
    let id = replay.subscribe();
    replay.push(event(backlog, false));
    assert_eq!(drain(&mut replay, id).len(), backlog as usize + 1);
}

#[test]
fn exits_are_the_last_to_be_dropped() {
    let mut replay = Replay::new(CAPACITY);
    let exits = CAPACITY as u32 - 1;
    (0..exits).for_each(|n| drop(replay.push(event(n, true))));
    assert!(replay.push(event(exits, false)).is_none());
    let dropped = replay.push(event(exits + 1, true)).expect("the log is full");
    assert_eq!(number(&dropped), exits);
    let dropped = replay.push(event(exits + 2, true)).expect("the log is full");
    assert_eq!(number(&dropped), 0);
    assert_eq!(replay.log.len(), CAPACITY);
}

#[derive(Debug, Clone)]
enum Step {
    Push,
    Write(usize),
    Leave(usize),
    Join,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Push),
        4 => (0..3usize).prop_map(Step::Write),
        1 => (0..3usize).prop_map(Step::Leave),
        1 => Just(Step::Join),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn nothing_is_lost_and_each_subscriber_sees_the_order_of_publishing(steps in steps()) {
        let mut replay = Replay::new(CAPACITY);
        let mut live: Vec<(SubscriberId, Option<u32>)> = Vec::new();
        let (mut pushed, mut seen) = (0, std::collections::BTreeSet::new());
        for step in steps {
            match step {
                Step::Push => { replay.push(event(pushed, false)); pushed += 1; }
                Step::Join if live.len() < 3 => live.push((replay.subscribe(), None)),
                Step::Leave(n) if n < live.len() => replay.unsubscribe(live.remove(n).0),
                Step::Write(n) if n < live.len() => {
                    let (id, last) = &mut live[n];
                    if let Next::Event(event) = replay.next(*id) {
                        replay.written(*id, &event);
                        prop_assert!(last.is_none_or(|last| number(&event) == last + 1));
                        *last = Some(number(&event));
                        seen.insert(number(&event));
                    }
                }
                Step::Join | Step::Leave(_) | Step::Write(_) => {}
            }
        }
        let last = replay.subscribe();
        seen.extend(drain(&mut replay, last));
        prop_assert_eq!(seen, (0..pushed).collect::<std::collections::BTreeSet<_>>());
    }
}
