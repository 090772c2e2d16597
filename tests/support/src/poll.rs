//! Waiting for what cannot be awaited: the state of other processes and of the kernel.

use std::time::{Duration, Instant};

/// How long a test waits for what should happen at once. Long, for machines under load: it is used up only by failures.
pub const LIMIT: Duration = Duration::from_secs(20);

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Looks until `look` finds nothing to complain of, and panics with its last complaint after `limit`.
pub async fn poll_until(limit: Duration, what: &str, mut look: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + limit;
    while let Err(complaint) = look() {
        assert!(Instant::now() < deadline, "{what}: not within {limit:?}: {complaint}");
        tokio::time::sleep(PAUSE).await;
    }
}
