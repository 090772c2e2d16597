//! Waiting for what cannot be awaited: the state of other processes and of the kernel.

use std::time::{Duration, Instant};

/// How long a test waits for what should happen at once. Long, for machines under load: it is used up only by failures.
pub const LIMIT: Duration = Duration::from_secs(20);

/// How long a test waits for what takes its time: many bytes, or a call in which runc has a part, whose own deadlines
/// are no longer. Used up only by failures.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How long a test that shows that something does not happen gives it to happen: five times the grace of a CloseIO
/// (`closeio_idle_ms` in `src/config/key.rs`), the longest of what is waited for so. On a busy machine such a test shows
/// less; it does not fail for that.
pub const ABSENCE: Duration = Duration::from_millis(500);

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Looks until `look` finds nothing to complain of, and panics with its last complaint after `limit`.
pub async fn poll_until(limit: Duration, what: &str, look: impl FnMut() -> Result<(), String>) {
    if let Err(complaint) = poll(limit, look).await {
        panic!("{what}: not within {limit:?}: {complaint}");
    }
}

/// Looks until `look` finds nothing to complain of, for `limit` at most.
///
/// # Errors
/// The last complaint.
pub async fn poll(limit: Duration, mut look: impl FnMut() -> Result<(), String>) -> Result<(), String> {
    let deadline = Instant::now() + limit;
    while let Err(complaint) = look() {
        if Instant::now() >= deadline {
            return Err(complaint);
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}
