//! Times as the wire has them. Owns both directions; never says what a time means.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use protobuf::well_known_types::timestamp::Timestamp;

/// A time for a message; one before 1970 becomes 1970.
pub fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).expect("a second has 10^9 of them"),
        ..Default::default()
    }
}

/// The time of a message; one before 1970 becomes 1970: the wire uses them, and a missing field, for "never".
pub fn system_time(timestamp: &Timestamp) -> SystemTime {
    let seconds = u64::try_from(timestamp.seconds).unwrap_or(0);
    let nanos = u32::try_from(timestamp.nanos).unwrap_or(0).min(999_999_999);
    UNIX_EPOCH.checked_add(Duration::new(seconds, nanos)).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_comes_back_as_it_was_sent() {
        for time in [UNIX_EPOCH, UNIX_EPOCH + Duration::new(5, 6)] {
            assert_eq!(system_time(&timestamp(time)), time);
        }
    }

    #[test]
    fn a_time_before_1970_is_never() {
        let zero_of_go = Timestamp { seconds: -62_135_596_800, ..Default::default() };
        assert_eq!(system_time(&zero_of_go), UNIX_EPOCH);
        assert_eq!(timestamp(UNIX_EPOCH - Duration::from_secs(1)), timestamp(UNIX_EPOCH));
    }
}
