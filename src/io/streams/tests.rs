//! The stream port's promises, over socket pairs and with paused time.

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::*;

const BOUNDS: StreamBounds =
    StreamBounds { handshake: Duration::from_secs(5), unclaimed: Duration::from_secs(60) };

/// A host's end of a connection that the table is serving.
fn connect(table: &StreamTable) -> UnixStream {
    let (host, guest) = UnixStream::pair().expect("a socket pair");
    tokio::spawn(table.clone().admit(Socket::Unix(guest)));
    host
}

/// Connects and completes the handshake.
async fn open(table: &StreamTable, id: u32) -> UnixStream {
    let mut host = connect(table);
    host.write_u32(id).await.expect("send the id");
    assert_eq!(host.read_u32().await.expect("the echo"), id);
    host
}

async fn assert_closed(mut host: UnixStream) {
    assert_eq!(host.read(&mut [0; 8]).await.expect("an end, not an error"), 0);
}

#[tokio::test]
async fn a_stream_is_echoed_and_handed_out_once() {
    let table = StreamTable::new(BOUNDS);
    let mut host = open(&table, 7).await;
    let mut streams = table.claim([StreamId(7)]).expect("it waits");
    assert_eq!(table.claim([StreamId(7)]).expect_err("it is taken"), StreamId(7));
    let mut guest = streams.take(StreamId(7)).expect("it was claimed");
    guest.write_all(b"x").await.expect("write");
    assert_eq!(host.read_u8().await.expect("read"), b'x');
}

#[tokio::test]
async fn an_id_that_comes_in_single_bytes_is_an_id() {
    let table = StreamTable::new(BOUNDS);
    let mut host = connect(&table);
    for byte in 258u32.to_be_bytes() {
        host.write_all(&[byte]).await.expect("write");
        tokio::task::yield_now().await;
    }
    assert_eq!(host.read_u32().await.expect("the echo"), 258);
}

#[tokio::test]
async fn a_second_stream_of_one_id_is_closed_and_the_first_stays() {
    let table = StreamTable::new(BOUNDS);
    let _first = open(&table, 7).await;
    let mut second = connect(&table);
    second.write_u32(7).await.expect("send the id");
    assert_closed(second).await;
    assert!(table.claim([StreamId(7)]).is_ok());
}

#[tokio::test]
async fn all_streams_of_a_request_are_claimed_or_none() {
    let table = StreamTable::new(BOUNDS);
    let _host = open(&table, 1).await;
    assert_eq!(table.claim([StreamId(1), StreamId(2)]).expect_err("2 is missing"), StreamId(2));
    assert!(table.claim([StreamId(1)]).is_ok());
}

#[tokio::test]
async fn streams_of_a_refused_request_are_closed() {
    let table = StreamTable::new(BOUNDS);
    let host = open(&table, 1).await;
    table.discard([StreamId(1), StreamId(2)]);
    assert_closed(host).await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_host_is_closed_after_the_handshakes_time_and_delays_nobody() {
    let table = StreamTable::new(BOUNDS);
    let silent = connect(&table);
    let started = tokio::time::Instant::now();
    let _other = open(&table, 1).await;
    assert!(started.elapsed() < BOUNDS.handshake);
    assert_closed(silent).await;
    assert!(started.elapsed() >= BOUNDS.handshake);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_no_request_names_expires() {
    let table = StreamTable::new(BOUNDS);
    let host = open(&table, 1).await;
    let started = tokio::time::Instant::now();
    assert_closed(host).await;
    assert!(started.elapsed() >= BOUNDS.unclaimed);
    assert!(table.claim([StreamId(1)]).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_claimed_stream_does_not_expire() {
    let table = StreamTable::new(BOUNDS);
    let mut host = open(&table, 1).await;
    let mut streams = table.claim([StreamId(1)]).expect("it waits");
    tokio::time::sleep(BOUNDS.unclaimed * 2).await;
    let mut guest = streams.take(StreamId(1)).expect("it was claimed");
    guest.write_all(b"x").await.expect("write");
    assert_eq!(host.read_u8().await.expect("read"), b'x');
}

#[tokio::test]
async fn the_number_of_waiting_streams_is_bounded() {
    let table = StreamTable::new(BOUNDS);
    let mut hosts = Vec::new();
    for id in 0..WAITING_MAX as u32 {
        hosts.push(open(&table, id).await);
    }
    assert_closed(connect(&table)).await;
    drop(table.claim([StreamId(0)]));
    hosts.push(open(&table, u32::MAX).await);
}
