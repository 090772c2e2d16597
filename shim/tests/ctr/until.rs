//! Waiting for what cannot be awaited: what containerd and the kernel say when they are asked.

use std::time::{Duration, Instant};

use tokio::time::sleep;

/// The pause between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// Looks until there is what is looked for, and panics with the last complaint after `within`.
pub async fn until<T>(within: Duration, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + within;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(complaint) => assert!(Instant::now() < deadline, "not within {within:?}: {complaint}"),
        }
        sleep(LOOK).await;
    }
}
