//! The watch over a machine: what its guest says, and how it ends. Owns the decision that it has ended, and what its
//! processes are said to have exited with; every path that ends a machine against its will leads through here.

use std::future::Future;
use std::sync::Arc;

use tokio::select;
use tokio::time::timeout;

use super::container::Container;
use super::link::{Fate, Link};
use super::machine::{Machine, SEEN};
use crate::client::EventStream;
use crate::state::Exit;

/// What a process is said to have exited with whose machine has died: containerd's own word for a shim that is gone.
const DIED: u32 = 255;

/// Watches until the machine ends, by whatever; then sees that all of it is gone, and that every exit is told.
pub(super) async fn watch(
    machine: Machine,
    link: Link,
    container: Arc<Container>,
    events: EventStream,
    holder: impl Future<Output = ()>,
) {
    let (ended, heard) = (machine.ended().await, hear(&container, events));
    tokio::pin!(ended, heard);
    let fate = select! {
        biased;
        fate = link.doomed() => fate,
        reason = &mut ended => {
            // An exit that the guest told just before is what it says, and not the machine's.
            let _ = timeout(SEEN, &mut heard).await;
            Fate { status: DIED, reason }
        }
        () = holder => Fate { status: Exit::KILLED, reason: "the process that stands for the container was killed".into() },
        why = &mut heard => {
            let reason = timeout(SEEN, &mut ended).await.unwrap_or(why);
            Fate { status: DIED, reason }
        }
    };
    tracing::error!(id = container.id(), reason = fate.reason, "the machine has ended");
    link.doom(fate.clone());
    machine.stop().await;
    container.all_ended(fate.status);
}

/// Takes in what the guest says until it says no more; gives why.
async fn hear(container: &Arc<Container>, mut events: EventStream) -> String {
    loop {
        match events.next().await {
            Ok(Some(event)) => container.hear(event),
            Ok(None) => return "the guest ended its events".to_owned(),
            Err(error) => return format!("its events cannot be followed: cannot {error}"),
        }
    }
}
