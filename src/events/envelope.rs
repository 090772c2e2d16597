//! Events as containerd's envelopes.

use std::time::{SystemTime, UNIX_EPOCH};

use protobuf::well_known_types::any::Any;
use protobuf::well_known_types::timestamp::Timestamp;
use protobuf::{Message, MessageField};
use vminitd_api::containerd::events::task as wire;
use vminitd_api::containerd::shim::event::Envelope;
use vminitd_api::containerd::topics;
use vminitd_api::containerd::types::mount::Mount;

use super::{Event, Happening, RootfsMount, StdioUris};

/// The envelope of an event. Its type URL is the bare name of the message, as containerd writes it.
pub fn encode(event: &Event) -> Envelope {
    let (topic, any) = message(event);
    Envelope {
        timestamp: MessageField::some(timestamp(event.at)),
        namespace: event.namespace.clone(),
        topic: topic.to_owned(),
        event: MessageField::some(any),
        ..Default::default()
    }
}

/// Times before 1970 become 1970: a guest without a clock starts there.
pub fn timestamp(at: SystemTime) -> Timestamp {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp { seconds: since.as_secs() as i64, nanos: since.subsec_nanos() as i32, ..Default::default() }
}

fn message(event: &Event) -> (&'static str, Any) {
    let container_id = event.container.clone();
    match event.what.clone() {
        Happening::Created { bundle, rootfs, stdio, pid } => {
            let bundle = bundle.to_string_lossy().into_owned();
            let (rootfs, io) = (rootfs.into_iter().map(mount).collect(), MessageField::some(io(stdio)));
            let created = wire::TaskCreate { container_id, bundle, rootfs, io, pid, ..Default::default() };
            (topics::TASK_CREATE_EVENT_TOPIC, pack("TaskCreate", &created))
        }
        Happening::Started { pid } => (
            topics::TASK_START_EVENT_TOPIC,
            pack("TaskStart", &wire::TaskStart { container_id, pid, ..Default::default() }),
        ),
        Happening::ExecAdded { exec_id } => {
            let added = wire::TaskExecAdded { container_id, exec_id, ..Default::default() };
            (topics::TASK_EXEC_ADDED_EVENT_TOPIC, pack("TaskExecAdded", &added))
        }
        Happening::ExecStarted { exec_id, pid } => {
            let started = wire::TaskExecStarted { container_id, exec_id, pid, ..Default::default() };
            (topics::TASK_EXEC_STARTED_EVENT_TOPIC, pack("TaskExecStarted", &started))
        }
        Happening::Paused => (
            topics::TASK_PAUSED_EVENT_TOPIC,
            pack("TaskPaused", &wire::TaskPaused { container_id, ..Default::default() }),
        ),
        Happening::Resumed => (
            topics::TASK_RESUMED_EVENT_TOPIC,
            pack("TaskResumed", &wire::TaskResumed { container_id, ..Default::default() }),
        ),
        Happening::Checkpointed { path } => {
            let checkpoint = path.to_string_lossy().into_owned();
            let done = wire::TaskCheckpointed { container_id, checkpoint, ..Default::default() };
            (topics::TASK_CHECKPOINTED_EVENT_TOPIC, pack("TaskCheckpointed", &done))
        }
        Happening::Oom => (
            topics::TASK_OOM_EVENT_TOPIC,
            pack("TaskOOM", &wire::TaskOOM { container_id, ..Default::default() }),
        ),
        Happening::Exited { id, pid, status: exit_status, at } => {
            let exited_at = MessageField::some(timestamp(at));
            let exit = wire::TaskExit { container_id, id, pid, exit_status, exited_at, ..Default::default() };
            (topics::TASK_EXIT_EVENT_TOPIC, pack("TaskExit", &exit))
        }
        Happening::Deleted { pid, status: exit_status, at } => {
            let exited_at = at.map(timestamp).into();
            // `id` stays empty: it would name an exec.
            let deleted =
                wire::TaskDelete { container_id, pid, exit_status, exited_at, ..Default::default() };
            (topics::TASK_DELETE_EVENT_TOPIC, pack("TaskDelete", &deleted))
        }
    }
}

fn mount(mount: RootfsMount) -> Mount {
    let RootfsMount { kind: type_, source, target, options } = mount;
    Mount { type_, source, target, options, ..Default::default() }
}

fn io(stdio: StdioUris) -> wire::TaskIO {
    let StdioUris { stdin, stdout, stderr, terminal } = stdio;
    wire::TaskIO { stdin, stdout, stderr, terminal, ..Default::default() }
}

/// The name is given by hand: asking the message for it would put the reflection data of every message into the binary.
fn pack(name: &str, message: &impl Message) -> Any {
    let value = message.write_to_bytes().expect("these messages have no required fields");
    Any { type_url: format!("containerd.events.{name}"), value, ..Default::default() }
}
