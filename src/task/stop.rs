//! The end of all containers: for good when the daemon stops, or of those that there are.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::container::Container;
use super::delete::exit_told;
use super::ids::ProcessId;
use super::kill::kill_init;
use super::registry::Tasks;
use crate::io::Relays;
use crate::tracked::Tracked;

/// As long as it lives no container and no process begins.
pub struct Shut(Tasks);

impl Drop for Shut {
    fn drop(&mut self) {
        if self.0.set_shut(false) {
            self.0.parts().runtime.go_on();
        }
    }
}

impl Tasks {
    /// Kills and removes every container: the end of the daemon. Takes no longer than twice `limit`.
    pub async fn stop_all(&self, limit: Duration) {
        self.close();
        self.parts().runtime.stop();
        if tokio::time::timeout(limit, self.stop_each()).await.is_err() {
            tracing::warn!("containers were not stopped in time");
        }
        self.finish_followers(limit).await;
        self.parts().streams.clear();
    }

    /// As in [`stop_all`](Self::stop_all) nothing begins any more, until what this returns is dropped.
    pub fn shut(&self) -> Shut {
        self.set_shut(true);
        self.parts().runtime.stop();
        Shut(self.clone())
    }

    /// Kills and removes every container that there is. Says whether all have gone within `limit`; what is left to do then
    /// goes on, and leaves alone what is created afterwards.
    pub async fn clear(&self, _nothing_begins: &Shut, limit: Duration) -> bool {
        let (done, ended) = oneshot::channel();
        let tasks = self.clone();
        self.track(async move {
            tasks.stop_each().await;
            // Whoever waited may have given up.
            let _ = done.send(());
        });
        let in_time = tokio::time::timeout(limit, ended).await.is_ok();
        in_time && self.is_empty()
    }

    /// Removes the bundles that no container has, but none in which something is mounted.
    pub async fn remove_bundles(&self) {
        self.bundles().remove_unused(&self.bundles_in_use()).await;
    }

    async fn stop_each(&self) {
        // Those that are there now are stopped at once; a runc that hangs in a Create holds up only itself.
        self.stop_these(self.all()).await;
        self.no_create_under_way().await;
        if self.refuse_when_stopping().is_err() {
            self.stop_these(self.all()).await;
        }
    }

    async fn stop_these(&self, containers: Vec<Arc<Container>>) {
        let stops = Tracked::default();
        for container in containers {
            let tasks = self.clone();
            stops.spawn(async move { tasks.stop(&container).await });
        }
        stops.ended().await;
    }

    /// Kills a container and deletes it; one whose Delete is under way is left to that.
    async fn stop(&self, container: &Container) {
        // Refused when it has ended; and then that is as well.
        let _ = kill_init(container).await;
        let until = Instant::now() + self.parts().bounds.delete_drain;
        let told = exit_told(container, &ProcessId::Init, until).await;
        // Their readers are waited for once, for all containers together.
        container.take_relays().into_iter().for_each(Relays::release);
        let deleted = match told {
            Ok(_) => self.delete(&container.id, &ProcessId::Init, None).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = deleted {
            tracing::warn!(container = %container.id, %error, "cannot remove a container");
        }
    }
}
