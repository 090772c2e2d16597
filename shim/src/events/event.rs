//! An event as containerd takes it: a topic and its message. Owns which message goes with which topic.

use std::time::SystemTime;

use protobuf::well_known_types::any::Any;
use protobuf::{MessageField, MessageFull};
use vminitd_api::containerd::events::task;
use vminitd_api::containerd::shim::event::Envelope;
use vminitd_api::containerd::topics;
use vminitd_api::timestamp;

use super::Names;

/// One event, ready to be published.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    topic: &'static str,
    message: Any,
}

/// A process that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exited {
    pub container_id: String,
    /// The exec's id; the container's own, or none, for its init.
    pub id: String,
    /// As the host reports it.
    pub pid: u32,
    pub exit_status: u32,
    pub exited_at: SystemTime,
}

impl Event {
    /// `/tasks/create`.
    pub fn create(names: &Names) -> Event {
        let stdio = names.stdio.clone();
        let io = task::TaskIO {
            stdin: stdio.stdin,
            stdout: stdio.stdout,
            stderr: stdio.stderr,
            terminal: stdio.terminal,
            ..Default::default()
        };
        let message = task::TaskCreate {
            container_id: names.container_id.clone(),
            bundle: names.bundle.clone(),
            rootfs: names.rootfs.clone(),
            io: MessageField::some(io),
            pid: names.init_pid,
            ..Default::default()
        };
        Event::new(topics::TASK_CREATE_EVENT_TOPIC, &message)
    }

    /// `/tasks/start`, of the init.
    pub fn start(container_id: &str, pid: u32) -> Event {
        let message = task::TaskStart { container_id: container_id.into(), pid, ..Default::default() };
        Event::new(topics::TASK_START_EVENT_TOPIC, &message)
    }

    /// `/tasks/exit`.
    pub fn exit(process: Exited) -> Event {
        let message = task::TaskExit {
            container_id: process.container_id,
            id: process.id,
            pid: process.pid,
            exit_status: process.exit_status,
            exited_at: MessageField::some(timestamp(process.exited_at)),
            ..Default::default()
        };
        Event::new(topics::TASK_EXIT_EVENT_TOPIC, &message)
    }

    /// `/tasks/delete`.
    pub fn delete(process: Exited) -> Event {
        let message = task::TaskDelete {
            container_id: process.container_id,
            id: process.id,
            pid: process.pid,
            exit_status: process.exit_status,
            exited_at: MessageField::some(timestamp(process.exited_at)),
            ..Default::default()
        };
        Event::new(topics::TASK_DELETE_EVENT_TOPIC, &message)
    }

    /// `/tasks/exec-added`.
    pub fn exec_added(container_id: &str, exec_id: &str) -> Event {
        let message = task::TaskExecAdded {
            container_id: container_id.into(),
            exec_id: exec_id.into(),
            ..Default::default()
        };
        Event::new(topics::TASK_EXEC_ADDED_EVENT_TOPIC, &message)
    }

    /// `/tasks/exec-started`.
    pub fn exec_started(container_id: &str, exec_id: &str, pid: u32) -> Event {
        let message = task::TaskExecStarted {
            container_id: container_id.into(),
            exec_id: exec_id.into(),
            pid,
            ..Default::default()
        };
        Event::new(topics::TASK_EXEC_STARTED_EVENT_TOPIC, &message)
    }

    /// `/tasks/oom`.
    pub fn oom(container_id: &str) -> Event {
        let message = task::TaskOOM { container_id: container_id.into(), ..Default::default() };
        Event::new(topics::TASK_OOM_EVENT_TOPIC, &message)
    }

    /// `/tasks/paused`.
    pub fn paused(container_id: &str) -> Event {
        let message = task::TaskPaused { container_id: container_id.into(), ..Default::default() };
        Event::new(topics::TASK_PAUSED_EVENT_TOPIC, &message)
    }

    /// `/tasks/resumed`.
    pub fn resumed(container_id: &str) -> Event {
        let message = task::TaskResumed { container_id: container_id.into(), ..Default::default() };
        Event::new(topics::TASK_RESUMED_EVENT_TOPIC, &message)
    }

    /// For example `/tasks/exit`.
    pub fn topic(&self) -> &'static str {
        self.topic
    }

    /// The message, under its bare name as type URL.
    pub fn message(&self) -> &Any {
        &self.message
    }

    /// The event as it is forwarded, with the time at which it was queued.
    pub(super) fn into_envelope(self, namespace: &str) -> Envelope {
        Envelope {
            timestamp: MessageField::some(timestamp(SystemTime::now())),
            namespace: namespace.to_string(),
            topic: self.topic.to_string(),
            event: MessageField::some(self.message),
            ..Default::default()
        }
    }

    /// containerd finds the type by the bare name, without a host before it.
    fn new<M: MessageFull>(topic: &'static str, message: &M) -> Event {
        let value = message.write_to_bytes().expect("the messages have no required fields");
        let type_url = M::descriptor().full_name().to_string();
        Event { topic, message: Any { type_url, value, ..Default::default() } }
    }
}
