//! When a freeze ends, where nothing on a disk is to be frozen, with a clock that is moved by hand. Real file systems are
//! frozen in microVMs only: here they would be the machine's own.

use std::future::pending;

use tokio::sync::oneshot;

use super::*;

const LONGEST: Duration = Duration::from_secs(60);

fn freezer() -> (Freezer, Clock) {
    let clock = Clock::default();
    let below = PathBuf::from("/no/such/folder");
    (Freezer::new(Settings { longest: LONGEST, below }, clock.clone()), clock)
}

fn is_frozen(freezer: &Freezer) -> bool {
    matches!(freezer.write().err(), Some(FreezeError::Refused(Refused::Frozen)))
}

#[tokio::test(start_paused = true)]
async fn a_freeze_ends_with_a_thaw_and_who_is_to_know_is_told() {
    let (freezer, clock) = freezer();
    freezer.freeze(pending()).await.expect("freeze");
    assert!(is_frozen(&freezer));
    freezer.thaw_all().await.expect("thaw");
    clock.asked().await;
    assert!(!is_frozen(&freezer));
    freezer.thaw_all().await.expect("thaw what is not frozen");
}

#[tokio::test(start_paused = true)]
async fn a_freeze_ends_after_its_time_and_not_before() {
    let (freezer, clock) = freezer();
    freezer.freeze(pending()).await.expect("freeze");
    sleep(LONGEST - Duration::from_millis(1)).await;
    assert!(is_frozen(&freezer));
    clock.asked().await;
    assert!(!is_frozen(&freezer));
}

#[tokio::test(start_paused = true)]
async fn a_freeze_ends_with_its_connection() {
    let (freezer, clock) = freezer();
    let (connection, end) = oneshot::channel::<()>();
    freezer.freeze(async move { drop(end.await) }).await.expect("freeze");
    assert!(is_frozen(&freezer));
    drop(connection);
    clock.asked().await;
    assert!(!is_frozen(&freezer));
}

#[tokio::test(start_paused = true)]
async fn it_is_thawed_when_the_last_of_two_freezes_is_over() {
    let (freezer, clock) = freezer();
    let (connection, end) = oneshot::channel::<()>();
    freezer.freeze(async move { drop(end.await) }).await.expect("freeze");
    sleep(LONGEST / 2).await;
    freezer.freeze(pending()).await.expect("freeze again");
    drop(connection);
    sleep(LONGEST - Duration::from_millis(1)).await;
    assert!(is_frozen(&freezer));
    clock.asked().await;
    assert!(!is_frozen(&freezer));
}

#[tokio::test(start_paused = true)]
async fn a_freeze_waits_for_writers_but_not_for_ever() {
    let (freezer, _) = freezer();
    let start = Instant::now();
    let writing = freezer.write().expect("nothing is frozen");
    let leave = async {
        sleep(WRITERS_WAIT / 2).await;
        assert!(is_frozen(&freezer), "others are refused while it waits");
        drop(writing);
    };
    let (frozen, ()) = tokio::join!(freezer.freeze(pending()), leave);
    frozen.expect("freeze");
    assert_eq!(start.elapsed(), WRITERS_WAIT / 2);

    freezer.thaw_all().await.expect("thaw");
    let _for_good = freezer.write().expect("nothing is frozen");
    let start = Instant::now();
    freezer.freeze(pending()).await.expect("freeze");
    assert_eq!(start.elapsed(), WRITERS_WAIT);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_frozen_after_the_stop() {
    let (freezer, clock) = freezer();
    freezer.freeze(pending()).await.expect("freeze");
    freezer.stop().await;
    clock.asked().await;
    assert!(!is_frozen(&freezer));
    let late = freezer.freeze(pending()).await;
    assert!(matches!(late, Err(FreezeError::Refused(Refused::Stopping))), "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn the_stop_does_not_wait_for_a_freeze_under_way() {
    let (freezer, _) = freezer();
    let _for_good = freezer.write().expect("nothing is frozen");
    let start = Instant::now();
    let stop = async {
        tokio::task::yield_now().await;
        freezer.stop().await;
    };
    let (refused, ()) = tokio::join!(freezer.freeze(pending()), stop);
    assert!(matches!(refused, Err(FreezeError::Refused(Refused::Stopping))), "{refused:?}");
    assert_eq!(start.elapsed(), Duration::ZERO);
    freezer.write().expect("nothing is frozen");
}

#[tokio::test(start_paused = true)]
async fn a_bar_ends_a_freeze_under_way_and_there_is_none_until_it_is_lifted() {
    let (freezer, _) = freezer();
    let _for_good = freezer.write().expect("nothing is frozen");
    let bar = async {
        tokio::task::yield_now().await;
        freezer.bar()
    };
    let start = Instant::now();
    let (refused, bar) = tokio::join!(freezer.freeze(pending()), bar);
    assert!(matches!(refused, Err(FreezeError::Refused(Refused::Stopping))), "{refused:?}");
    assert_eq!(start.elapsed(), Duration::ZERO);
    freezer.write().expect("nothing is frozen");
    let refused = freezer.freeze(pending()).await;
    assert!(matches!(refused, Err(FreezeError::Refused(Refused::Stopping))), "{refused:?}");
    drop(bar);
    freezer.freeze(pending()).await.expect("freeze");
}

#[tokio::test]
async fn what_cannot_be_frozen_is_an_error_and_holds_nothing() {
    let (freezer, _) = freezer();
    let folder = tempfile::tempdir().expect("a folder");
    let point = folder.path().to_owned();
    for (path, missing) in [(point.clone(), false), (point.join("missing"), true)] {
        // Another device is mounted there, or nothing is.
        let target = Target { device: (254, 99), points: vec![path.clone()] };
        let refused =
            freezer.freeze_one(target, Instant::now() + FREEZE_WAIT).await.expect_err("a wrong place");
        let text = refused.to_string();
        assert!(text.starts_with(&format!("FIFREEZE {}: ", path.display())), "{text}");
        assert_eq!(text.contains("No such file"), missing, "{text}");
    }
}
