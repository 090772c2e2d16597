//! The events of a daemon, collected in the order they came, in a form that reads well in a failed assertion.

use std::time::SystemTime;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{timeout, timeout_at, Instant};
use vminit_shim::api::containerd::api::StateRequest;
use vminit_shim::client::{Client, Endpoint, Event, EventStream, Guest, Received};

use crate::calls::brief;
use crate::{Cuttable, LIMIT};

/// A subscription that keeps what it got. Dropping it closes its connection.
pub struct EventLog {
    seen: watch::Receiver<Vec<Received>>,
    reader: JoinHandle<()>,
}

/// A subscription that can be ended without losing what is on its way.
pub struct Subscriber {
    log: EventLog,
    connection: Cuttable,
}

impl EventLog {
    /// Subscribes on a connection of its own.
    pub async fn subscribe(guest: &Guest) -> Self {
        // With a ping: the daemon has accepted the connection then, and its descriptors may be counted.
        let client = Client::connect_until(&guest.rpc, LIMIT).await.expect("connect for events");
        Self::of_stream(client.events().await.expect("subscribe to events"))
    }

    /// All that comes on this subscription.
    pub fn of_stream(mut stream: EventStream) -> Self {
        let (sender, seen) = watch::channel(Vec::new());
        let reader = tokio::spawn(async move {
            // An error is the end of the daemon or of the subscription; what came until then stands.
            while let Ok(Some(event)) = stream.receive().await {
                sender.send_modify(|all| all.push(event));
            }
        });
        Self { seen, reader }
    }

    /// What happened to one container, in order: `create`, `start`, `exec-added E`, `exec-started E`, `exit E 0`,
    /// `exit 7`, `paused`, `resumed`, `checkpointed`, `oom`, `delete`.
    pub fn of(&self, container: &str) -> Vec<String> {
        self.seen.borrow().iter().filter_map(|received| line(&received.event, container)).collect()
    }

    /// Waits until this happened to the container; what [`of`](Self::of) says then.
    pub async fn until(&self, container: &str, wanted: &str) -> Vec<String> {
        let mut seen = self.seen.clone();
        let happened = |all: &Vec<Received>| {
            all.iter().filter_map(|received| line(&received.event, container)).any(|line| line == wanted)
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

impl Subscriber {
    /// Subscribes over a Unix socket.
    pub async fn subscribe(rpc: &Endpoint) -> Self {
        let connection = Cuttable::connect(rpc).await.expect("connect for events");
        let log = EventLog::of_stream(connection.client.events().await.expect("subscribe to events"));
        Self { log, connection }
    }

    /// Waits until the daemon has taken the subscription, which no answer says: requests of one connection are begun in
    /// their order, so it has when it answers a later one. One who subscribes afterwards takes nothing from this one.
    pub async fn is_heard(&self) {
        let request = StateRequest { id: "any".into(), ..Default::default() };
        // There is no such container, or the connection has ended, which the log shows.
        let _ = self.connection.client.task().state(brief(), &request).await;
    }

    /// Waits until this happened to the container.
    pub async fn until(&self, container: &str, wanted: &str) {
        self.log.until(container, wanted).await;
    }

    /// Waits for an event that was published at this time or later, after which all earlier ones have come; whether one
    /// came before the deadline.
    pub async fn told_since(&self, time: SystemTime, deadline: Instant) -> bool {
        let mut seen = self.log.seen.clone();
        let is_later = |all: &Vec<Received>| all.last().is_some_and(|last| last.timestamp >= time);
        let told = timeout_at(deadline, seen.wait_for(is_later)).await;
        matches!(told, Ok(Ok(_)))
    }

    /// Cuts the connection, whatever is on its way.
    pub fn vanish(self) {
        self.connection.cut();
    }

    /// Ends the subscription from this side and takes what the daemon had written to it by then.
    pub async fn hang_up(mut self) -> Vec<Received> {
        self.connection.half_close();
        timeout(LIMIT, &mut self.log.reader).await.expect("the daemon closes too").expect("join");
        let all = self.log.seen.borrow().clone();
        all
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
        Event::Oom { container_id } => (container_id, "oom".to_owned()),
        Event::Paused { container_id } => (container_id, "paused".to_owned()),
        Event::Resumed { container_id } => (container_id, "resumed".to_owned()),
        Event::Checkpointed { container_id, .. } => (container_id, "checkpointed".to_owned()),
        Event::Other { .. } => return None,
    };
    (owner == container).then_some(line)
}
