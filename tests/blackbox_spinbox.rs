//! What the spinbox host depends on and sees byte for byte, under its profile, over a Unix socket. That all of it works
//! together is shown by `tests/vm/spinbox`; docs/TESTING.md has the table of what that host depends on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use vminit_shim::api::bundle::CreateRequest;
use vminit_shim::api::containerd::api::{StateResponse, Status};
use vminit_shim::api::containerd::events::task::{
    TaskCreate, TaskExecAdded, TaskExecStarted, TaskExit, TaskStart,
};
use vminit_shim::api::containerd::shim::event::Envelope;
use vminit_shim::api::protobuf::Message;
use vminit_shim::api::service;
use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::{Guest, INIT};
use vminitd_test_support::calls::{self, brief, exec, rpc_code, state};
use vminitd_test_support::wire::{
    self, frame, Frame, RawConnection, DATA, HEADER_BYTES, REMOTE_CLOSED, REQUEST, RESPONSE,
};
use vminitd_test_support::{binaries, Daemon};

/// Go's zero time, which containerd reads as "has not exited".
const NEVER_SECONDS: i64 = -62_135_596_800;

async fn daemon() -> Daemon {
    Daemon::with_flags(&binaries::fake_runc(), &["-host=spinbox"]).await
}

// ---- frames

/// The payload of the answer to a ping: Response.status (1) with code (1) INVALID_ARGUMENT and message (2).
fn pong() -> Vec<u8> {
    let text = b"StreamID must be odd for client initiated streams";
    let length = text.len() as u8;
    [&[0x0a, length + 4, 0x08, 3, 0x12, length], &text[..]].concat()
}

#[tokio::test]
async fn a_ping_of_ten_zeros_is_answered_byte_for_byte_again_and_again() {
    let daemon = daemon().await;
    let mut wire = RawConnection::open(&daemon).await;
    for _ in 0..3 {
        wire.send(&[0; HEADER_BYTES]).await;
        let answer = wire.receive_frame().await;
        assert_eq!(answer, Frame { stream_id: 0, kind: RESPONSE, flags: 0, payload: pong() });
    }
    // Any other even id is a ping too.
    wire.send(&frame(6, REQUEST, 0, b"")).await;
    let answer = wire.receive_frame().await;
    assert_eq!(answer, Frame { stream_id: 6, kind: RESPONSE, flags: 0, payload: pong() });
    daemon.stop().await;
}

/// The next message of the stream, which must be of this topic, with the message that the topic has.
async fn told<M: Message>(wire: &mut RawConnection, topic: &str, name: &str) -> M {
    let Frame { stream_id, kind, flags, payload } = wire.receive_frame().await;
    assert_eq!((stream_id, kind, flags), (1, DATA, 0));
    let envelope = Envelope::parse_from_bytes(&payload).expect("an envelope");
    assert_eq!((envelope.topic.as_str(), envelope.namespace.as_str()), (topic, "default"));
    assert!(envelope.timestamp.seconds > 0, "{topic} has a time");
    let event = envelope.event.into_option().expect("an event");
    assert_eq!(event.type_url, name, "the name is bare");
    M::parse_from_bytes(&event.value).expect("the message of the topic")
}

#[tokio::test]
async fn events_come_on_the_first_stream_of_a_connection_in_their_exact_form() {
    let daemon = daemon().await;
    let guest = daemon.guest().await;
    let mut wire = RawConnection::open(&daemon).await;
    wire.send(&[0; HEADER_BYTES]).await;
    wire.receive().await;
    let request = wire::request(service::EVENTS_SPINBOX, "Stream", Vec::new());
    wire.send(&frame(1, REQUEST, REMOTE_CLOSED, &request)).await;

    let pid = calls::create(&guest, "c", &["forever"]).await.expect("create");
    guest.start("c", INIT).await.expect("start");
    exec(&guest, "c", "e", &["exit", "3"]).await.expect("exec");
    let exec_pid = guest.start("c", "e").await.expect("start an exec");
    guest.wait("c", "e").await.expect("wait");
    guest.kill("c", INIT, 9).await.expect("kill");

    let create: TaskCreate = told(&mut wire, "/tasks/create", "containerd.events.TaskCreate").await;
    assert_eq!((create.container_id.as_str(), create.pid), ("c", pid));
    assert_eq!(Path::new(&create.bundle), daemon.bundle("c"));
    let start: TaskStart = told(&mut wire, "/tasks/start", "containerd.events.TaskStart").await;
    assert_eq!((start.container_id.as_str(), start.pid), ("c", pid));
    let added: TaskExecAdded = told(&mut wire, "/tasks/exec-added", "containerd.events.TaskExecAdded").await;
    assert_eq!((added.container_id.as_str(), added.exec_id.as_str()), ("c", "e"));
    let started: TaskExecStarted =
        told(&mut wire, "/tasks/exec-started", "containerd.events.TaskExecStarted").await;
    assert_eq!((started.exec_id.as_str(), started.pid), ("e", exec_pid));
    let exit: TaskExit = told(&mut wire, "/tasks/exit", "containerd.events.TaskExit").await;
    assert_eq!((exit.id.as_str(), exit.pid, exit.exit_status), ("e", exec_pid, 3));
    let exit: TaskExit = told(&mut wire, "/tasks/exit", "containerd.events.TaskExit").await;
    // That host knows the exit of the init by the two being equal.
    assert_eq!((exit.container_id.as_str(), exit.id.as_str()), ("c", "c"));
    assert_eq!((exit.pid, exit.exit_status), (pid, 137));
    daemon.stop().await;
}

#[tokio::test]
async fn the_delete_is_for_the_host_to_tell() {
    let daemon = daemon().await;
    let (guest, events) = daemon.guest_and_events().await;
    calls::running(&guest, "c", &["exit", "0"]).await;
    assert_eq!(calls::reap(&guest, "c", INIT).await, 0);
    // Events keep their order, so one of the delete would have come before this.
    calls::create(&guest, "next", &["exit", "0"]).await.expect("create");
    events.until("next", "create").await;
    assert_eq!(events.of("c"), ["create", "start", "exit 0"]);
    daemon.stop().await;
}

// ---- bundles

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).permissions().mode() & 0o7777
}

async fn bundle(guest: &Guest, id: &str, files: &[&str]) -> Result<String, Code> {
    let files = files.iter().map(|&name| (name.to_owned(), name.as_bytes().to_vec())).collect();
    let request = CreateRequest { id: id.into(), files, ..Default::default() };
    guest.client.bundle().create(brief(), &request).await.map(|reply| reply.bundle).map_err(rpc_code)
}

#[tokio::test]
async fn a_bundle_holds_its_files_and_an_empty_root_with_their_modes() {
    let daemon = daemon().await;
    let guest = daemon.guest().await;
    let made = bundle(&guest, "c", &["config.json", "a..b"]).await.expect("make a bundle");
    let path = daemon.bundle("c");
    assert_eq!(Path::new(&made), path);
    let paths = ["", "rootfs", "config.json", "a..b"].map(|name| path.join(name));
    assert_eq!(paths.map(|path| mode(&path)), [0o750, 0o750, 0o600, 0o600]);
    assert_eq!(fs::read(path.join("a..b")).expect("read a file"), b"a..b");
    bundle(&guest, "empty", &[]).await.expect("a bundle may have no files");
    assert_eq!(bundle(&guest, "c", &[]).await, Err(Code::ALREADY_EXISTS));
    daemon.stop().await;
}

#[tokio::test]
async fn a_bundle_with_a_name_that_leads_elsewhere_is_refused_before_anything_is_made() {
    let daemon = daemon().await;
    let guest = daemon.guest().await;
    for id in ["", "..", "a..b/c", "a/b", "../c"] {
        assert_eq!(bundle(&guest, id, &[]).await, Err(Code::INVALID_ARGUMENT), "{id:?}");
    }
    for name in ["", "/etc/passwd", "a/b", "a\\b", ".", ".."] {
        let refused = bundle(&guest, "c", &["config.json", name]).await;
        assert_eq!(refused, Err(Code::INVALID_ARGUMENT), "{name:?}");
        assert!(!daemon.bundle("c").exists(), "{name:?}");
    }
    daemon.stop().await;
}

// ---- state

#[tokio::test]
async fn state_names_the_process_and_says_never_of_an_exit_to_come() {
    let daemon = daemon().await;
    let guest = daemon.guest().await;
    calls::running(&guest, "c", &["forever"]).await;
    exec(&guest, "c", "e", &["exit", "0"]).await.expect("exec");
    for (exec_id, id, status) in [(INIT, "c", Status::RUNNING), ("e", "e", Status::CREATED)] {
        let StateResponse { id: named, bundle, status: is, exit_status, exited_at, .. } =
            state(&guest, "c", exec_id).await.expect("state");
        assert_eq!((named.as_str(), is.enum_value(), exit_status), (id, Ok(status), 0));
        assert_eq!(Path::new(&bundle), daemon.bundle("c"));
        assert_eq!((exited_at.seconds, exited_at.nanos), (NEVER_SECONDS, 0));
    }
    daemon.stop().await;
}
