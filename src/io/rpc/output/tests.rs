//! Who is sent what, who is cut off, and that nobody holds up a process for ever.

use super::*;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe::pipe;

/// Takes all there is for a subscriber.
fn take(stretch: &mut Stretch, id: u64) -> Result<Vec<u8>, CutOff> {
    let mut taken = Vec::new();
    while let Next::Bytes(bytes) = stretch.next(id)? {
        stretch.advance(id, bytes.len());
        taken.extend(bytes);
    }
    Ok(taken)
}

#[test]
fn the_first_subscriber_gets_what_came_before_and_the_next_only_what_comes() {
    let mut stretch = Stretch::default();
    stretch.append(b"early");
    let first = stretch.subscribe();
    assert_eq!(take(&mut stretch, first), Ok(b"early".to_vec()));
    let second = stretch.subscribe();
    stretch.append(b" late");
    assert_eq!(take(&mut stretch, second), Ok(b" late".to_vec()));
    assert_eq!(take(&mut stretch, first), Ok(b" late".to_vec()));
    assert!(stretch.bytes.is_empty(), "what all have is forgotten");
}

#[test]
fn what_was_not_sent_goes_to_the_next_subscriber() {
    let mut stretch = Stretch::default();
    let first = stretch.subscribe();
    stretch.append(b"onetwo");
    stretch.advance(first, 3);
    stretch.leave(first);
    let second = stretch.subscribe();
    assert_eq!(take(&mut stretch, second), Ok(b"two".to_vec()));
}

#[test]
fn without_subscribers_the_newest_bytes_are_kept() {
    let mut stretch = Stretch::default();
    assert!(!stretch.append(&vec![1; KEPT_BYTES]));
    assert!(stretch.has_room(), "a process that nobody reads is not held up");
    assert!(stretch.append(&[2; BLOCK_BYTES]), "what is lost is told");
    let late = stretch.subscribe();
    let taken = take(&mut stretch, late).expect("it is not cut off");
    assert_eq!(taken.len(), KEPT_BYTES);
    assert_eq!(taken[KEPT_BYTES - BLOCK_BYTES..], [2; BLOCK_BYTES]);
}

#[test]
fn the_furthest_sets_the_pace_and_the_slow_is_cut_off() {
    let mut stretch = Stretch::default();
    let (slow, fast) = (stretch.subscribe(), stretch.subscribe());
    while stretch.has_room() {
        stretch.append(&[0; BLOCK_BYTES]);
    }
    assert_eq!(stretch.bytes.len(), AHEAD_BYTES, "both are slow: the process waits");
    while stretch.bytes.len() < KEPT_BYTES {
        take(&mut stretch, fast).expect("it is not cut off");
        assert!(stretch.has_room());
        stretch.append(&[0; BLOCK_BYTES]);
    }
    assert!(stretch.next(slow).is_ok(), "it is at the edge");
    stretch.append(&[0]);
    assert_eq!(stretch.next(slow), Err(CutOff));
    assert_eq!(take(&mut stretch, fast).map(|taken| taken.len()), Ok(BLOCK_BYTES + 1));
}

#[test]
fn none_of_two_that_take_turns_is_cut_off() {
    let mut stretch = Stretch::default();
    let both = [stretch.subscribe(), stretch.subscribe()];
    for _ in 0..256 {
        while stretch.has_room() {
            stretch.append(&[0; BLOCK_BYTES]);
        }
        for id in both {
            assert!(matches!(stretch.next(id), Ok(Next::Bytes(_))));
            stretch.advance(id, BLOCK_BYTES);
            // The process is quick.
            while stretch.has_room() {
                stretch.append(&[0; BLOCK_BYTES]);
            }
        }
    }
}

#[test]
fn one_that_subscribes_after_the_end_gets_the_rest_and_the_end() {
    let mut stretch = Stretch::default();
    stretch.append(b"rest");
    stretch.ended = true;
    for expected in [&b"rest"[..], b""] {
        let id = stretch.subscribe();
        assert_eq!(take(&mut stretch, id), Ok(expected.to_vec()));
        assert_eq!(stretch.next(id), Ok(Next::End));
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_hangs_does_not_hold_up_the_process_for_ever() {
    let (output, feed) = output();
    let hanging = output.subscribe();
    let (mut process, pipe) = pipe().expect("a pipe");
    let (done_tx, mut done) = watch::channel(false);
    let (_kept, deletion) = crate::io::deletion::deletion();
    let (_stop, stopping) = watch::channel(false);
    let fanning = tokio::spawn(fan_out(pipe, feed, done_tx, deletion, stopping));
    process.write_all(&vec![7; 4 * KEPT_BYTES]).await.expect("somebody reads the pipe");
    drop(process);
    done.wait_for(|done| *done).await.expect("the end is told");
    assert_eq!(hanging.next().await, Err(CutOff));
    fanning.await.expect("fanning out does not panic");
    let last = output.subscribe();
    assert_eq!(last.next().await.map(|bytes| bytes.map(|bytes| bytes.len())), Ok(Some(BLOCK_BYTES)));
}

#[tokio::test]
async fn a_subscriber_is_woken_by_bytes_and_by_the_end() {
    let (output, feed) = output();
    let subscription = output.subscribe();
    let ((), woken) = tokio::join!(async { feed.append(b"x") }, subscription.next());
    assert_eq!(woken, Ok(Some(b"x".to_vec())));
    subscription.sent(1);
    let ((), ended) = tokio::join!(async { drop(feed) }, subscription.next());
    assert_eq!(ended, Ok(None));
}
