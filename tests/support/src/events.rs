//! The events of a daemon, collected in the order they came, in a form that reads well in a failed assertion.

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use vminit_shim::client::{Client, Event, Guest};

use crate::LIMIT;

/// A subscription that keeps what it got. Dropping it closes its connection.
pub struct EventLog {
    seen: watch::Receiver<Vec<Event>>,
    reader: JoinHandle<()>,
}

impl EventLog {
    /// Subscribes on a connection of its own.
    pub async fn subscribe(guest: &Guest) -> Self {
        // With a ping: the daemon has accepted the connection then, and its descriptors may be counted.
        let client = Client::connect_until(&guest.rpc, LIMIT).await.expect("connect for events");
        let mut stream = client.events().await.expect("subscribe to events");
        let (sender, seen) = watch::channel(Vec::new());
        let reader = tokio::spawn(async move {
            // An error is the end of the daemon or of the subscription; what came until then stands.
            while let Ok(Some(event)) = stream.next().await {
                sender.send_modify(|all| all.push(event));
            }
        });
        Self { seen, reader }
    }

    /// What happened to one container, in order: `create`, `start`, `exec-added E`, `exec-started E`, `exit E 0`,
    /// `exit 7`, `delete`.
    pub fn of(&self, container: &str) -> Vec<String> {
        self.seen.borrow().iter().filter_map(|event| line(event, container)).collect()
    }

    /// Waits until this happened to the container; what [`of`](Self::of) says then.
    pub async fn until(&self, container: &str, wanted: &str) -> Vec<String> {
        let mut seen = self.seen.clone();
        let happened = |all: &Vec<Event>| {
            all.iter().filter_map(|event| line(event, container)).any(|line| line == wanted)
        };
        let waited = timeout(LIMIT, seen.wait_for(happened)).await;
        assert!(
            matches!(waited, Ok(Ok(_))),
            "no event \"{wanted}\" of {container}; there were {:?}",
            self.of(container)
        );
        self.of(container)
    }
}

impl Drop for EventLog {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// One event in words, if it is this container's.
fn line(event: &Event, container: &str) -> Option<String> {
    let (owner, line) = match event {
        Event::Create { container_id, .. } => (container_id, "create".to_owned()),
        Event::Start { container_id, .. } => (container_id, "start".to_owned()),
        Event::ExecAdded { container_id, exec_id } => (container_id, format!("exec-added {exec_id}")),
        Event::ExecStarted { container_id, exec_id, .. } => (container_id, format!("exec-started {exec_id}")),
        Event::Exit { container_id, id, status, .. } if id == container_id => {
            (container_id, format!("exit {status}"))
        }
        Event::Exit { container_id, id, status, .. } => (container_id, format!("exit {id} {status}")),
        Event::Delete { container_id, id, .. } if id.is_empty() || id == container_id => {
            (container_id, "delete".to_owned())
        }
        Event::Delete { container_id, id, .. } => (container_id, format!("delete {id}")),
        Event::Other { .. } => return None,
    };
    (owner == container).then_some(line)
}
