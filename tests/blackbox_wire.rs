//! The RPC port under abuse, over a Unix socket: whatever comes, the daemon goes on serving others and keeps nothing.

use tokio::io::AsyncWriteExt;
use vminit_shim::api::service;
use vminit_shim::api::ttrpc::{self, Code};
use vminit_shim::client::{context, Guest};
use vminitd_test_support::calls::running;
use vminitd_test_support::chance::{self, Chance};
use vminitd_test_support::wire::{self, frame, header, RawConnection, DATA, HEADER_BYTES, REQUEST, RESPONSE};
use vminitd_test_support::{Daemon, LIMIT};

/// ttrpc's limit on a frame's payload.
const FRAME_MAX: u32 = 4 << 20;

/// The payload of a request with nothing in its message.
fn request(service: &str, method: &str) -> Vec<u8> {
    wire::request(service, method, Vec::new())
}

async fn ping(wire: &mut RawConnection) {
    wire.send(&[0; HEADER_BYTES]).await;
    let (stream_id, kind, payload) = wire.receive().await;
    assert_eq!((stream_id, kind), (0, RESPONSE));
    assert!(!payload.is_empty(), "the answer to a ping has a status");
}

/// The code in a response's payload: Response.status (1) → Status.code (1), a varint below 128.
fn code_of(payload: &[u8]) -> Option<u8> {
    match payload {
        [0x0a, _, 0x08, code, ..] => Some(*code),
        _ => None,
    }
}

async fn still_serves(daemon: &Daemon) {
    let guest = daemon.guest().await;
    let info = guest.client.system().info(context(LIMIT, "default"), &Default::default()).await;
    info.expect("the daemon serves");
}

// ---- pings

#[tokio::test]
async fn a_ping_is_answered_and_leaves_the_connection_usable() {
    let daemon = Daemon::with_fake_runc().await;
    let mut wire = RawConnection::open(&daemon).await;
    ping(&mut wire).await;
    ping(&mut wire).await;
    wire.send(&frame(1, REQUEST, 0, &request(service::SYSTEM, "Info"))).await;
    let (stream_id, kind, _) = wire.receive().await;
    assert_eq!((stream_id, kind), (1, RESPONSE));
    daemon.stop().await;
}

#[tokio::test]
async fn a_thousand_ping_connections_leave_no_trace() {
    let daemon = Daemon::with_fake_runc().await;
    ping(&mut RawConnection::open(&daemon).await).await;
    let (before, logged) = (daemon.open_descriptors(), daemon.log().len());
    for _ in 0..1000 {
        ping(&mut RawConnection::open(&daemon).await).await;
    }
    daemon.assert_nothing_left(before).await;
    let log = daemon.log();
    let loud: Vec<&str> = log[logged..].lines().filter(|line| is_above_debug(line)).collect();
    assert!(loud.is_empty(), "logged above debug: {:?}", &loud[..loud.len().min(3)]);
    daemon.stop().await;
}

fn is_above_debug(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    ["info", "warn", "error"]
        .iter()
        .any(|level| line.split(|c: char| !c.is_alphabetic()).any(|word| word == *level))
}

#[tokio::test]
async fn a_thousand_connections_that_say_nothing_leave_no_descriptor() {
    let daemon = Daemon::with_fake_runc().await;
    let before = daemon.open_descriptors();
    for _ in 0..1000 {
        drop(RawConnection::open(&daemon).await);
    }
    still_serves(&daemon).await;
    daemon.assert_nothing_left(before).await;
    daemon.stop().await;
}

// ---- garbage

#[tokio::test]
async fn random_bytes_and_random_frames_leave_the_daemon_serving() {
    let daemon = Daemon::with_fake_runc().await;
    let before = daemon.open_descriptors();
    let seed = chance::seed();
    println!("VMINITD_SEED={seed}");
    let mut noise = Chance::new(seed, 0);
    for round in 0..300 {
        let mut wire = RawConnection::open(&daemon).await;
        let bytes = match round % 2 {
            0 => {
                let few = noise.below(4096);
                noise.bytes(few as usize)
            }
            _ => {
                let (id, kind, flags) = (noise.below(1 << 32), noise.below(5), noise.below(1 << 8));
                let few = noise.below(512);
                frame(id as u32, kind as u8, flags as u8, &noise.bytes(few as usize))
            }
        };
        // The daemon may have hung up on the first bytes already.
        let _ = wire.0.write_all(&bytes).await;
    }
    still_serves(&daemon).await;
    daemon.assert_nothing_left(before).await;
    daemon.stop().await;
}

#[tokio::test]
async fn an_oversized_frame_is_refused_and_another_connection_does_not_notice() {
    let daemon = Daemon::with_fake_runc().await;
    for length in [FRAME_MAX + 1, u32::MAX] {
        let mut wire = RawConnection::open(&daemon).await;
        wire.send(&header(length, 1, REQUEST, 0)).await;
        if length == FRAME_MAX + 1 {
            // It is read past and answered, so what follows it is in step.
            wire.send(&vec![0; length as usize]).await;
            let (stream_id, kind, _) = wire.receive().await;
            assert_eq!((stream_id, kind), (1, RESPONSE));
            ping(&mut wire).await;
        }
        still_serves(&daemon).await;
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_frame_of_the_greatest_size_is_read() {
    let daemon = Daemon::with_fake_runc().await;
    let mut wire = RawConnection::open(&daemon).await;
    // Not a Request: a field of type 7, which protobuf does not have.
    wire.send(&frame(1, REQUEST, 0, &vec![0x0f; FRAME_MAX as usize])).await;
    let (stream_id, kind, _) = wire.receive().await;
    assert_eq!((stream_id, kind), (1, RESPONSE));
    ping(&mut wire).await;
    daemon.stop().await;
}

#[tokio::test]
async fn half_frames_hold_up_nobody_and_are_forgotten() {
    let daemon = Daemon::with_fake_runc().await;
    let before = daemon.open_descriptors();
    let whole = frame(1, REQUEST, 0, &request(service::SYSTEM, "Info"));
    let mut halves = Vec::new();
    for cut in [1, HEADER_BYTES - 1, HEADER_BYTES, whole.len() - 1] {
        let mut wire = RawConnection::open(&daemon).await;
        wire.send(&whole[..cut]).await;
        halves.push(wire);
    }
    still_serves(&daemon).await;
    drop(halves);
    daemon.assert_nothing_left(before).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_frame_in_single_bytes_is_a_frame() {
    let daemon = Daemon::with_fake_runc().await;
    let mut wire = RawConnection::open(&daemon).await;
    for byte in frame(1, REQUEST, 0, &request(service::SYSTEM, "Info")) {
        wire.send(&[byte]).await;
    }
    let (stream_id, kind, _) = wire.receive().await;
    assert_eq!((stream_id, kind), (1, RESPONSE));
    daemon.stop().await;
}

#[tokio::test]
async fn a_stream_id_that_does_not_grow_is_refused() {
    let daemon = Daemon::with_fake_runc().await;
    let mut wire = RawConnection::open(&daemon).await;
    let info = request(service::SYSTEM, "Info");
    wire.send(&frame(5, REQUEST, 0, &info)).await;
    wire.receive().await;
    for reused in [5, 3] {
        wire.send(&frame(reused, REQUEST, 0, &info)).await;
        let (stream_id, _, payload) = wire.receive().await;
        assert_eq!((stream_id, code_of(&payload)), (reused, Some(3)), "INVALID_ARGUMENT");
    }
    wire.send(&frame(7, REQUEST, 0, &info)).await;
    assert_eq!(wire.receive().await.0, 7);
    daemon.stop().await;
}

#[tokio::test]
async fn data_for_a_stream_that_is_not_there_is_refused() {
    let daemon = Daemon::with_fake_runc().await;
    let mut wire = RawConnection::open(&daemon).await;
    wire.send(&frame(1, DATA, 0, b"x")).await;
    let (stream_id, _, payload) = wire.receive().await;
    assert_eq!((stream_id, code_of(&payload)), (1, Some(3)));
    ping(&mut wire).await;
    daemon.stop().await;
}

#[tokio::test]
async fn unknown_services_and_methods_are_unimplemented() {
    let daemon = Daemon::with_fake_runc().await;
    let mut wire = RawConnection::open(&daemon).await;
    let unknown =
        [("no.such.Service", "Info"), (service::SYSTEM, "NoSuchMethod"), (service::TASK_V2, ""), ("", "")];
    for (n, (service, method)) in unknown.into_iter().enumerate() {
        let stream_id = 2 * n as u32 + 1;
        wire.send(&frame(stream_id, REQUEST, 0, &request(service, method))).await;
        let (answered, _, payload) = wire.receive().await;
        assert_eq!((answered, code_of(&payload)), (stream_id, Some(12)), "{service}/{method}");
    }
    daemon.stop().await;
}

// ---- every method, with nothing in the request

const TASK_METHODS: [&str; 16] = [
    "State",
    "Create",
    "Start",
    "Delete",
    "Pids",
    "Pause",
    "Resume",
    "Checkpoint",
    "Kill",
    "Exec",
    "ResizePty",
    "CloseIO",
    "Update",
    "Wait",
    "Stats",
    "Connect",
];
/// Those of the System service: number 0 is the boot processor, and memory that an ordinary process does not have.
const SYSTEM_METHODS: [(&str, Result<(), Code>); 8] = [
    ("Info", Ok(())),
    ("PrepareShutdown", Ok(())),
    ("FreezeFilesystems", Ok(())),
    ("ThawFilesystems", Ok(())),
    ("OfflineCPU", Err(Code::INVALID_ARGUMENT)),
    ("OnlineCPU", Ok(())),
    ("OfflineMemory", Err(Code::NOT_FOUND)),
    ("OnlineMemory", Err(Code::NOT_FOUND)),
];

#[tokio::test]
async fn an_empty_request_to_every_method_is_answered() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    running(&guest, "c", &["forever"]).await;
    for service in [service::TASK_V3, service::TASK_V2] {
        for method in TASK_METHODS {
            let refused = empty_request(&guest, service, method).await;
            assert_eq!(refused, Err(Code::INVALID_ARGUMENT), "{service}/{method}: there is no id in it");
        }
        // Shutdown needs no id, and does nothing while there is a container.
        assert_eq!(empty_request(&guest, service, "Shutdown").await, Ok(()));
    }
    for (method, answer) in SYSTEM_METHODS {
        assert_eq!(empty_request(&guest, service::SYSTEM, method).await, answer, "{method}");
    }
    assert_eq!(empty_request(&guest, service::BUNDLE, "Create").await, Err(Code::INVALID_ARGUMENT));
    still_serves(&daemon).await;
    daemon.stop().await;
}

/// What came back; there must be an answer.
async fn empty_request(guest: &Guest, service: &str, method: &str) -> Result<(), Code> {
    let request = ttrpc::Request {
        service: service.into(),
        method: method.into(),
        timeout_nano: LIMIT.as_nanos() as i64,
        ..Default::default()
    };
    match guest.client.raw().request(request).await {
        Ok(_) => Ok(()),
        Err(ttrpc::Error::RpcStatus(status)) => Err(status.code()),
        Err(other) => panic!("{service}/{method} was not answered: {other}"),
    }
}

// ---- clients that vanish

/// What waited for a client stayed when that had gone: containerd/containerd#11483.
#[tokio::test]
async fn a_client_that_vanishes_while_it_waits_leaves_nothing() {
    let daemon = Daemon::with_fake_runc().await;
    let before = daemon.open_descriptors();
    for service in [service::EVENTS_SPINBOX, service::EVENTS_NERDBOX] {
        for _ in 0..50 {
            let mut wire = RawConnection::open(&daemon).await;
            wire.send(&frame(1, REQUEST, 1, &request(service, "Stream"))).await;
        }
    }
    still_serves(&daemon).await;
    daemon.assert_nothing_left(before).await;
    daemon.stop().await;
}

#[tokio::test]
async fn pipelined_requests_are_all_answered_to_a_slow_reader() {
    let daemon = Daemon::with_fake_runc().await;
    let mut wire = RawConnection::open(&daemon).await;
    let info = request(service::SYSTEM, "Info");
    // Within the bound on requests in flight, so that none is refused.
    let ids: Vec<u32> = (0..50).map(|n| 2 * n + 1).collect();
    let all: Vec<u8> = ids.iter().flat_map(|id| frame(*id, REQUEST, 0, &info)).collect();
    wire.send(&all).await;
    let mut answered = Vec::new();
    for _ in &ids {
        answered.push(wire.receive().await.0);
    }
    answered.sort_unstable();
    assert_eq!(answered, ids);
    daemon.stop().await;
}
