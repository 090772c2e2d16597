//! Streams over a served connection: order, ends, and clients that break the rules or vanish.

use super::*;
use crate::wire::frame::{FLAG_NO_DATA, FLAG_REMOTE_CLOSED, FLAG_REMOTE_OPEN};

fn data(stream_id: u32, payload: &[u8]) -> Vec<u8> {
    frame::encode(stream_id, Kind::Data, 0, payload)
}

async fn messages(peer: &mut Peer, stream_id: u32) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    loop {
        let frame = peer.recv().await;
        assert_eq!((frame.stream_id, frame.kind), (stream_id, Kind::Data));
        if frame.flags == FLAG_REMOTE_CLOSED | FLAG_NO_DATA {
            assert!(frame.payload.is_empty());
            return messages;
        }
        assert_eq!(frame.flags, 0);
        messages.push(frame.payload);
    }
}

#[tokio::test]
async fn a_server_stream_ends_with_a_close() {
    let mut peer = Peer::connect();
    peer.send(&opening(1, "Count", FLAG_REMOTE_CLOSED, &[5])).await;
    assert_eq!(messages(&mut peer, 1).await, [[0], [1], [2], [3], [4]]);
    peer.send(&opening(3, "Count", FLAG_REMOTE_CLOSED, &[])).await;
    assert_eq!(messages(&mut peer, 3).await.len(), 3, "an empty request is a request");
    peer.leave().await;
}

#[tokio::test]
async fn a_stream_that_fails_ends_with_its_status() {
    let mut peer = Peer::connect();
    let refused = peer.refused(&opening(1, "Fail", FLAG_REMOTE_CLOSED, &[]), 1).await;
    assert_eq!(refused, (Code::NOT_FOUND, "nothing to stream".to_owned()));
    peer.leave().await;
}

/// ttrpc-rust#220 (data right behind the opening frame) and #221 (no phantom message from Go's opening frame).
#[tokio::test]
async fn data_in_the_same_packet_as_the_opening_is_not_lost() {
    let mut peer = Peer::connect();
    let close = frame::encode(1, Kind::Data, FLAG_REMOTE_CLOSED | FLAG_NO_DATA, &[]);
    let packet =
        [opening(1, "Mirror", FLAG_REMOTE_OPEN, &[]), data(1, b"first"), data(1, &[]), close].concat();
    peer.send(&packet).await;
    assert_eq!(messages(&mut peer, 1).await, [b"first".to_vec(), Vec::new()]);
    peer.leave().await;
}

/// ttrpc-rust's server reorders frames of one stream on several threads.
#[tokio::test]
async fn messages_of_a_stream_keep_their_order() {
    let Peer { socket, served, stop, .. } = Peer::connect();
    let (mut reader, mut writer) = socket.into_split();
    const MESSAGES: u32 = 5_000;
    let sending = tokio::spawn(async move {
        writer.write_all(&opening(1, "Mirror", FLAG_REMOTE_OPEN, &[])).await.expect("the server reads");
        for n in 0..MESSAGES {
            writer.write_all(&data(1, &n.to_be_bytes())).await.expect("the server reads");
        }
        writer
    });
    let mut decoder = Decoder::default();
    let mut chunk = vec![0; 16 << 10];
    let mut seen = 0u32;
    while seen < MESSAGES {
        let length = soon(reader.read(&mut chunk)).await.expect("the server writes");
        let mut input = &chunk[..length];
        while let Some(Incoming::Frame(frame)) = decoder.decode(&mut input) {
            assert_eq!(frame.payload, seen.to_be_bytes());
            seen += 1;
        }
    }
    drop((soon(sending).await, reader));
    soon(served).await.expect("serving does not panic");
    drop(stop);
}

/// ttrpc-rust#222: a send must not say success on a dead connection.
#[tokio::test]
async fn a_send_succeeds_only_when_its_bytes_are_written() {
    let mut peer = Peer::connect();
    peer.send(&opening(1, "Count", FLAG_REMOTE_CLOSED, &[2])).await;
    happened(&peer.probe.sent, 2).await;
    // Both are in the socket, so they are there even though nobody has polled for them yet.
    let mut chunk = vec![0; 2 * (HEADER_LEN + 1)];
    soon(peer.socket.read_exact(&mut chunk)).await.expect("the bytes are in the socket");
    assert_eq!((chunk[HEADER_LEN], chunk[2 * HEADER_LEN + 1]), (0, 1));
    peer.leave().await;
}

/// containerd/ttrpc bounds a stream's queue in the same way (ttrpc#229).
#[tokio::test]
async fn a_stream_nobody_reads_is_given_up_and_the_connection_goes_on() {
    let mut peer = Peer::connect();
    let mut flood = opening(1, "Deaf", FLAG_REMOTE_OPEN, &[]);
    (0..65).for_each(|_| flood.extend(data(1, b"more")));
    assert_eq!(peer.refused(&flood, 1).await.0, Code::RESOURCE_EXHAUSTED);
    happened(&peer.probe.dropped, 1).await;
    peer.echoes(3).await;
    peer.leave().await;
}

/// ttrpc-rust#202: a stream's handler does not stay after its client.
#[tokio::test]
async fn a_stream_ends_when_its_client_goes() {
    let mut peer = Peer::connect();
    peer.send(&opening(1, "Deaf", FLAG_REMOTE_OPEN, &[])).await;
    happened(&peer.probe.begun, 1).await;
    let probe = peer.probe.clone();
    peer.leave().await;
    happened(&probe.dropped, 1).await;
}
