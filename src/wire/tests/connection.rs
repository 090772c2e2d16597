//! One served connection, over a Unix socket pair: bounds, deadlines, panics, vanishing peers, shutdown.

use super::*;
use crate::wire::frame::MAX_PAYLOAD;

/// The readiness ping of hosts: ten zero bytes.
#[tokio::test]
async fn the_readiness_ping_is_answered_and_the_connection_stays_usable() {
    let mut peer = Peer::connect();
    for stream_id in [1, 3] {
        let (code, message) = peer.refused(&[0; HEADER_LEN], 0).await;
        assert_eq!(code, Code::INVALID_ARGUMENT);
        assert_eq!(message, "StreamID must be odd for client initiated streams");
        peer.echoes(stream_id).await;
    }
    peer.leave().await;
}

/// ttrpc-rust#203 and the frame rules of PROTOCOL.md: no frame ends the connection.
#[tokio::test]
async fn bad_frames_are_refused_one_by_one() {
    let mut peer = Peer::connect();
    let oversized = frame::encode(1, Kind::Request, 0, &vec![0; MAX_PAYLOAD + 1]);
    assert_eq!(peer.refused(&oversized, 1).await.0, Code::RESOURCE_EXHAUSTED);
    assert_eq!(peer.refused(&call(1, "Echo", &[]), 1).await.0, Code::INVALID_ARGUMENT);
    assert_eq!(peer.refused(&call(3, "Missing", &[]), 3).await.0, Code::UNIMPLEMENTED);
    assert_eq!(peer.refused(&frame::encode(5, Kind::Data, 0, b"x"), 5).await.0, Code::INVALID_ARGUMENT);
    peer.send(&frame::encode(7, Kind::Unknown(9), 0, b"later")).await;
    peer.send(&frame::encode(7, Kind::Response, 0, b"an answer")).await;
    let unknown = frame::encode(9, Kind::Request, 0, &request("no.Such", "Echo", &[], Duration::ZERO));
    assert_eq!(peer.refused(&unknown, 9).await, (Code::UNIMPLEMENTED, "service no.Such".to_owned()));
    peer.echoes(11).await;
    peer.leave().await;
}

#[tokio::test]
async fn half_a_frame_and_goodbye_leaves_nothing() {
    let mut peer = Peer::connect();
    let frame = call(1, "Echo", b"never whole");
    peer.send(&frame[..frame.len() - 3]).await;
    peer.leave().await;
}

/// ttrpc-rust#208.
#[tokio::test]
async fn an_empty_payload_is_answered_with_one() {
    let mut peer = Peer::connect();
    peer.send(&call(1, "Echo", &[])).await;
    let frame = peer.recv().await;
    assert_eq!((status_of(&frame).code(), response_of(&frame).payload), (Code::OK, Vec::new()));
    peer.leave().await;
}

/// ttrpc-rust's server leaves the caller waiting for ever.
#[tokio::test]
async fn a_panic_answers_internal_and_harms_nobody_else() {
    let mut peer = Peer::connect();
    assert_eq!(
        peer.refused(&call(1, "Panic", &[]), 1).await,
        (Code::INTERNAL, "handler panicked".to_owned())
    );
    assert_eq!(peer.refused(&opening(3, "PanicStream", 1, &[]), 3).await.0, Code::INTERNAL);
    peer.echoes(5).await;
    peer.leave().await;
}

#[tokio::test]
async fn errors_that_are_no_status_become_one() {
    let mut peer = Peer::connect();
    assert_eq!(peer.refused(&call(1, "Undecodable", &[]), 1).await.0, Code::INVALID_ARGUMENT);
    assert_eq!(peer.refused(&call(3, "Broken", &[]), 3).await, (Code::INTERNAL, "eof".to_owned()));
    peer.leave().await;
}

#[tokio::test]
async fn a_call_that_waits_does_not_hold_up_the_next() {
    let mut peer = Peer::connect();
    peer.send(&[call(1, "Park", &[]), call(3, "Slow", &[])].concat()).await;
    happened(&peer.probe.begun, 2).await;
    peer.echoes(5).await;
    peer.probe.gate.add_permits(1);
    assert_eq!(peer.recv().await.stream_id, 3);
    peer.leave().await;
}

/// containerd#11483: a Wait must not stay after its client; a call that changes something must.
#[tokio::test]
async fn a_handler_outlives_its_client_and_a_wait_does_not() {
    let mut peer = Peer::connect();
    peer.send(&[call(1, "Slow", &[]), call(3, "Park", &[]), opening(5, "Deaf", 1, &[])].concat()).await;
    happened(&peer.probe.begun, 3).await;
    let probe = peer.probe.clone();
    drop(peer.socket);
    happened(&probe.dropped, 2).await;
    assert_eq!(probe.finished.available_permits(), 0);
    assert!(!peer.served.is_finished(), "a call that was begun is waited for");
    probe.gate.add_permits(1);
    happened(&probe.finished, 1).await;
    soon(peer.served).await.expect("serving does not panic");
}

#[tokio::test]
async fn at_the_deadline_the_caller_is_told_and_the_work_goes_on() {
    let mut peer = Peer::connect();
    assert_eq!(peer.refused(&timed(1, "Slow", Duration::from_millis(5)), 1).await.0, Code::DEADLINE_EXCEEDED);
    assert_eq!(peer.refused(&timed(3, "Park", Duration::from_millis(5)), 3).await.0, Code::DEADLINE_EXCEEDED);
    happened(&peer.probe.dropped, 1).await;
    peer.probe.gate.add_permits(1);
    happened(&peer.probe.finished, 1).await;
    // The one who was told late must not be told twice.
    peer.echoes(5).await;
    peer.leave().await;
}

#[tokio::test]
async fn beyond_the_bounds_calls_are_refused_and_none_stalls() {
    let mut peer = Peer::connect();
    let parked: Vec<u8> = (0..1024).flat_map(|n| call(2 * n + 1, "Park", &[])).collect();
    peer.send(&parked).await;
    happened(&peer.probe.begun, 1024).await;
    assert_eq!(peer.refused(&call(2049, "Park", &[]), 2049).await.0, Code::RESOURCE_EXHAUSTED);
    let working: Vec<u8> = (0..64).flat_map(|n| call(2 * n + 2051, "Slow", &[])).collect();
    peer.send(&working).await;
    happened(&peer.probe.begun, 64).await;
    assert_eq!(peer.refused(&call(3001, "Echo", &[]), 3001).await.0, Code::RESOURCE_EXHAUSTED);
    peer.probe.gate.add_permits(64);
    for _ in 0..64 {
        assert_eq!(status_of(&peer.recv().await).code(), Code::OK);
    }
    peer.echoes(3003).await;
    peer.leave().await;
}

#[tokio::test]
async fn a_burst_of_quick_calls_is_no_overload() {
    let mut peer = Peer::connect();
    let burst: Vec<u8> = (0..500).flat_map(|n| call(2 * n + 1, "Echo", b"quick")).collect();
    peer.send(&burst).await;
    for _ in 0..500 {
        assert_eq!(status_of(&peer.recv().await).code(), Code::OK);
    }
    peer.leave().await;
}

/// ttrpc#72, #94, #168, #174: neither side may stop reading because it writes.
#[tokio::test]
async fn a_slow_reader_with_pipelined_calls_gets_every_answer() {
    let Peer { socket, served, stop, .. } = Peer::connect();
    let (mut reader, mut writer) = socket.into_split();
    const CALLS: u32 = 100;
    // Each call asks for 1 MiB and carries 64 KiB: far more both ways than the sockets hold.
    let sending = tokio::spawn(async move {
        for n in 0..CALLS {
            writer.write_all(&call(2 * n + 1, "Wide", &vec![1; 64 << 10])).await.expect("the server reads");
        }
        writer
    });
    let mut decoder = Decoder::default();
    let mut chunk = vec![0; 4 << 10];
    let mut answered = 0;
    while answered < CALLS {
        let length = soon(reader.read(&mut chunk)).await.expect("the server writes");
        assert_ne!(length, 0);
        let mut input = &chunk[..length];
        while let Some(Incoming::Frame(frame)) = decoder.decode(&mut input) {
            assert_eq!(status_of(&frame).code(), Code::OK);
            answered += 1;
        }
    }
    drop((soon(sending).await, reader));
    soon(served).await.expect("serving does not panic");
    drop(stop);
}

/// design.md, bounds: 8 MiB unsent, then the connection is not read until they drain.
#[tokio::test]
async fn a_peer_that_does_not_read_is_not_read_from() {
    let Peer { mut socket, served, stop, .. } = Peer::connect();
    let mut accepted = 0u32;
    // A server that went on reading would take these for ever; the bound lets at most a few hundred in.
    while accepted < 50_000 {
        let frame = call(2 * accepted + 1, "Wide", &vec![0; 4096]);
        match timeout(Duration::from_millis(500), socket.write_all(&frame)).await {
            Ok(written) => written.expect("the server is there"),
            Err(_) => break,
        }
        accepted += 1;
    }
    assert!(accepted < 2_000, "{accepted} calls were taken");
    drop((socket, stop));
    soon(served).await.expect("serving does not panic");
}

/// ttrpc-rust#30, #31, #227, #228: shutdown neither hangs nor loses answers.
#[tokio::test]
async fn shutdown_finishes_calls_in_flight_and_refuses_new_ones() {
    let mut peer = Peer::connect();
    peer.send(&call(1, "Slow", &[])).await;
    happened(&peer.probe.begun, 1).await;
    peer.stop.send_replace(true);
    // The stop is seen before what is read after it.
    assert_eq!(peer.refused(&call(3, "Echo", &[]), 3).await.0, Code::UNAVAILABLE);
    peer.probe.gate.add_permits(1);
    assert_eq!(status_of(&peer.recv().await).code(), Code::OK);
    assert_eq!(peer.next().await, None, "then the server closes");
    peer.leave().await;
}

#[tokio::test]
async fn shutdown_closes_an_idle_connection() {
    let mut peer = Peer::connect();
    peer.echoes(1).await;
    peer.stop.send_replace(true);
    assert_eq!(peer.next().await, None);
    peer.leave().await;
}

/// Answers that were queued before the peer closed its half still reach it.
#[tokio::test]
async fn a_peer_that_closes_its_half_gets_what_was_answered() {
    let mut peer = Peer::connect();
    peer.send(&[0; HEADER_LEN]).await;
    peer.socket.shutdown().await.expect("the socket is open");
    assert_eq!(peer.recv().await.stream_id, 0);
    assert_eq!(peer.next().await, None);
    peer.leave().await;
}
