//! The guest's events in the host's names. A pure function: what the guest says of things of the host is replaced, and
//! what it says of containers that are not its own is not passed on.

use super::{Event, Names};
use crate::client::Event as Guest;

/// Ids may be so long (containerd, `identifiers.Validate`). The guest is not trusted to keep to it.
const ID_MAX: usize = 76;

/// The event to publish for one of the guest's, if there is any.
///
/// An exit and a delete are none: what comes of them is decided by who knows the states of processes. Nor is a
/// checkpoint: its folder is the guest's, and who asked for it knows the host's.
pub fn rewrite(event: Guest, names: &Names) -> Option<Event> {
    let container = names.container_id.as_str();
    if container_of(&event)? != container {
        return None;
    }
    match event {
        Guest::Create { .. } => Some(Event::create(names)),
        Guest::Start { .. } => Some(Event::start(container, names.init_pid)),
        Guest::ExecAdded { exec_id, .. } => is_id(&exec_id).then(|| Event::exec_added(container, &exec_id)),
        Guest::ExecStarted { exec_id, pid, .. } => {
            is_id(&exec_id).then(|| Event::exec_started(container, &exec_id, names.pid(&exec_id, pid)))
        }
        Guest::Oom { .. } => Some(Event::oom(container)),
        Guest::Paused { .. } => Some(Event::paused(container)),
        Guest::Resumed { .. } => Some(Event::resumed(container)),
        Guest::Exit { .. } | Guest::Delete { .. } | Guest::Checkpointed { .. } | Guest::Other { .. } => None,
    }
}

/// The container that an event of the guest is about.
pub fn container_of(event: &Guest) -> Option<&str> {
    match event {
        Guest::Create { container_id, .. }
        | Guest::Start { container_id, .. }
        | Guest::ExecAdded { container_id, .. }
        | Guest::ExecStarted { container_id, .. }
        | Guest::Exit { container_id, .. }
        | Guest::Delete { container_id, .. }
        | Guest::Oom { container_id }
        | Guest::Paused { container_id }
        | Guest::Resumed { container_id }
        | Guest::Checkpointed { container_id, .. } => Some(container_id),
        Guest::Other { .. } => None,
    }
}

fn is_id(id: &str) -> bool {
    (1..=ID_MAX).contains(&id.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    use protobuf::Message;
    use vminitd_api::containerd::events::task::TaskCreate;
    use vminitd_api::containerd::types::mount::Mount;

    use crate::events::Stdio;

    const HOLDER: u32 = 4321;

    fn names() -> Names {
        let rootfs = vec![Mount { type_: "overlay".into(), source: "overlay".into(), ..Default::default() }];
        let stdio = Stdio { stdout: "/run/fifo/out".into(), terminal: true, ..Default::default() };
        let (container_id, bundle) = ("c".to_string(), "/run/containerd/c".to_string());
        Names { container_id, bundle, rootfs, stdio, init_pid: HOLDER }
    }

    fn check(cases: impl IntoIterator<Item = (Guest, Option<Event>)>) {
        for (guest, event) in cases {
            assert_eq!(rewrite(guest.clone(), &names()), event, "{guest:?}");
        }
    }

    #[test]
    fn a_create_says_what_the_host_was_asked_for() {
        let guest = Guest::Create { container_id: "c".into(), bundle: "/run/bundles/c".into(), pid: 80 };
        let event = rewrite(guest, &names()).unwrap();
        assert_eq!(
            (event.topic(), event.message().type_url.as_str()),
            ("/tasks/create", "containerd.events.TaskCreate")
        );
        let message = TaskCreate::parse_from_bytes(&event.message().value).unwrap();
        assert_eq!((message.container_id.as_str(), message.bundle.as_str()), ("c", "/run/containerd/c"));
        assert_eq!((message.io.stdout.as_str(), message.io.terminal), ("/run/fifo/out", true));
        assert_eq!((message.rootfs, message.pid), (names().rootfs, HOLDER));
    }

    #[test]
    fn the_init_is_the_holder_and_the_others_name_no_process_of_the_host() {
        let exec_started = |pid| Guest::ExecStarted { container_id: "c".into(), exec_id: "e".into(), pid };
        check([
            (Guest::Start { container_id: "c".into(), pid: 80 }, Some(Event::start("c", HOLDER))),
            (exec_started(81), Some(Event::exec_started("c", "e", 4_194_385))),
            (exec_started(0), Some(Event::exec_started("c", "e", 0))),
            (exec_started(4_194_303), Some(Event::exec_started("c", "e", 8_388_607))),
            (exec_started(u32::MAX), Some(Event::exec_started("c", "e", 0))),
        ]);
    }

    #[test]
    fn what_concerns_the_whole_container_is_passed_on() {
        let container_id = || "c".to_string();
        check([
            (Guest::Oom { container_id: container_id() }, Some(Event::oom("c"))),
            (Guest::Paused { container_id: container_id() }, Some(Event::paused("c"))),
            (Guest::Resumed { container_id: container_id() }, Some(Event::resumed("c"))),
            (
                Guest::ExecAdded { container_id: container_id(), exec_id: "e".into() },
                Some(Event::exec_added("c", "e")),
            ),
        ]);
    }

    #[test]
    fn what_a_guest_may_not_say_is_not_passed_on() {
        let exec_added = |id: &str| Guest::ExecAdded { container_id: "c".into(), exec_id: id.into() };
        check([
            (Guest::Oom { container_id: "other".into() }, None),
            (exec_added(&"e".repeat(ID_MAX + 1)), None),
            (exec_added(""), None),
            (Guest::Other { topic: "/images/delete".into() }, None),
            (Guest::Checkpointed { container_id: "c".into(), checkpoint: "/guest".into() }, None),
        ]);
    }
}
