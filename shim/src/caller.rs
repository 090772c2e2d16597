//! Who waits for the answer of a call. `serve` says when that is nobody any more, and a handler may ask; nothing else
//! passes between them here.

use std::future::Future;

use tokio_util::sync::CancellationToken;

tokio::task_local! {
    static GONE: CancellationToken;
}

/// Serves a call whose caller has gone when `gone` is cancelled.
pub fn serving<F: Future>(gone: CancellationToken, call: F) -> impl Future<Output = F::Output> {
    GONE.scope(gone, call)
}

/// Of the call that the current task serves: it is cancelled when nobody waits for the answer any more. A handler is
/// finished all the same; one that makes something that nobody would know of may undo it instead.
pub fn gone() -> CancellationToken {
    // Outside of a call there is no caller who could go.
    GONE.try_with(CancellationToken::clone).unwrap_or_default()
}
