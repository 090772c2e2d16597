//! The guest's events, decoded. Owns what a topic means to the host; never drops or reorders one.

use std::time::SystemTime;

use protobuf::Message;
use vminitd_api::containerd::events::task;
use vminitd_api::containerd::shim::event::Envelope;
use vminitd_api::containerd::topics;
use vminitd_api::system_time;
use vminitd_api::ttrpc::asynchronous::ClientStreamReceiver;

use super::ClientError;

/// What happened to a container or to one of its processes. An `id` that equals the container's means its init.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Create {
        container_id: String,
        bundle: String,
        pid: u32,
    },
    Start {
        container_id: String,
        pid: u32,
    },
    ExecAdded {
        container_id: String,
        exec_id: String,
    },
    ExecStarted {
        container_id: String,
        exec_id: String,
        pid: u32,
    },
    Exit {
        container_id: String,
        id: String,
        pid: u32,
        status: u32,
        exited_at: SystemTime,
    },
    Delete {
        container_id: String,
        id: String,
        pid: u32,
        status: u32,
        exited_at: SystemTime,
    },
    /// The kernel killed one of its processes because its memory was used up.
    Oom {
        container_id: String,
    },
    Paused {
        container_id: String,
    },
    Resumed {
        container_id: String,
    },
    /// `checkpoint` is the folder with the image, in the guest.
    Checkpointed {
        container_id: String,
        checkpoint: String,
    },
    Other {
        topic: String,
    },
}

/// An event as it arrived, with what its envelope says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// When the guest published it, by the guest's clock.
    pub timestamp: SystemTime,
    /// containerd's namespace.
    pub namespace: String,
    /// For example `/tasks/exit`.
    pub topic: String,
    pub event: Event,
}

/// A subscription. It ends with its connection, or when it is dropped.
pub struct EventStream {
    stream: ClientStreamReceiver<Envelope>,
}

impl EventStream {
    pub(super) fn new(stream: ClientStreamReceiver<Envelope>) -> Self {
        EventStream { stream }
    }

    /// Waits for the next event; `None` when the guest has closed the stream.
    ///
    /// # Errors
    /// `Rpc` if the connection broke, `Event` if the payload does not decode.
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        Ok(self.receive().await?.map(|received| received.event))
    }

    /// As [`next`](Self::next), with the envelope's time, namespace and topic.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn receive(&mut self) -> Result<Option<Received>, ClientError> {
        match self.stream.recv().await.map_err(ClientError::rpc("Events.Stream"))? {
            Some(envelope) => Received::decode(envelope).map(Some),
            None => Ok(None),
        }
    }
}

impl Received {
    /// Reads an envelope as it came over the wire.
    ///
    /// # Errors
    /// `Event` if the payload does not decode.
    pub fn decode(envelope: Envelope) -> Result<Received, ClientError> {
        let event = payload(&envelope.topic, &envelope.event.value)
            .map_err(|source| ClientError::Event { topic: envelope.topic.clone(), source })?;
        Ok(Received {
            timestamp: system_time(&envelope.timestamp),
            namespace: envelope.namespace,
            topic: envelope.topic,
            event,
        })
    }
}

fn payload(topic: &str, value: &[u8]) -> protobuf::Result<Event> {
    Ok(match topic {
        topics::TASK_CREATE_EVENT_TOPIC => {
            let task::TaskCreate { container_id, bundle, pid, .. } = Message::parse_from_bytes(value)?;
            Event::Create { container_id, bundle, pid }
        }
        topics::TASK_START_EVENT_TOPIC => {
            let task::TaskStart { container_id, pid, .. } = Message::parse_from_bytes(value)?;
            Event::Start { container_id, pid }
        }
        topics::TASK_EXEC_ADDED_EVENT_TOPIC => {
            let task::TaskExecAdded { container_id, exec_id, .. } = Message::parse_from_bytes(value)?;
            Event::ExecAdded { container_id, exec_id }
        }
        topics::TASK_EXEC_STARTED_EVENT_TOPIC => {
            let task::TaskExecStarted { container_id, exec_id, pid, .. } = Message::parse_from_bytes(value)?;
            Event::ExecStarted { container_id, exec_id, pid }
        }
        topics::TASK_EXIT_EVENT_TOPIC => {
            let task::TaskExit { container_id, id, pid, exit_status, exited_at, .. } =
                Message::parse_from_bytes(value)?;
            Event::Exit { container_id, id, pid, status: exit_status, exited_at: system_time(&exited_at) }
        }
        topics::TASK_DELETE_EVENT_TOPIC => {
            let task::TaskDelete { container_id, id, pid, exit_status, exited_at, .. } =
                Message::parse_from_bytes(value)?;
            Event::Delete { container_id, id, pid, status: exit_status, exited_at: system_time(&exited_at) }
        }
        other => return payload_of_container(other, value),
    })
}

/// The events that concern a container as a whole, apart from its life.
fn payload_of_container(topic: &str, value: &[u8]) -> protobuf::Result<Event> {
    Ok(match topic {
        topics::TASK_OOM_EVENT_TOPIC => {
            let task::TaskOOM { container_id, .. } = Message::parse_from_bytes(value)?;
            Event::Oom { container_id }
        }
        topics::TASK_PAUSED_EVENT_TOPIC => {
            let task::TaskPaused { container_id, .. } = Message::parse_from_bytes(value)?;
            Event::Paused { container_id }
        }
        topics::TASK_RESUMED_EVENT_TOPIC => {
            let task::TaskResumed { container_id, .. } = Message::parse_from_bytes(value)?;
            Event::Resumed { container_id }
        }
        topics::TASK_CHECKPOINTED_EVENT_TOPIC => {
            let task::TaskCheckpointed { container_id, checkpoint, .. } = Message::parse_from_bytes(value)?;
            Event::Checkpointed { container_id, checkpoint }
        }
        other => Event::Other { topic: other.to_string() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::time::{Duration, UNIX_EPOCH};

    use protobuf::MessageField;
    use vminitd_api::timestamp;

    #[test]
    fn an_exit_is_decoded_with_its_time() {
        let exited_at = UNIX_EPOCH + Duration::new(5, 6);
        let exit = task::TaskExit {
            container_id: "c".into(),
            id: "e".into(),
            pid: 9,
            exit_status: 137,
            exited_at: MessageField::some(timestamp(exited_at)),
            ..Default::default()
        };
        let event = payload("/tasks/exit", &exit.write_to_bytes().unwrap()).unwrap();
        assert_eq!(
            event,
            Event::Exit { container_id: "c".into(), id: "e".into(), pid: 9, status: 137, exited_at }
        );
    }

    #[test]
    fn an_unknown_topic_is_kept_by_its_name() {
        assert_eq!(payload("/images/create", b"").unwrap(), Event::Other { topic: "/images/create".into() });
    }

    #[test]
    fn a_checkpoint_is_decoded_with_its_folder() {
        let event = task::TaskCheckpointed {
            container_id: "c".into(),
            checkpoint: "/i".into(),
            ..Default::default()
        };
        let decoded = payload("/tasks/checkpointed", &event.write_to_bytes().unwrap()).unwrap();
        assert_eq!(decoded, Event::Checkpointed { container_id: "c".into(), checkpoint: "/i".into() });
    }
}
