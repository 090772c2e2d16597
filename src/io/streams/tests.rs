//! The stream port's promises, over socket pairs and with paused time.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;

const NUMERIC: StreamSettings = StreamSettings {
    ids: StreamIds::Numeric,
    handshake: Duration::from_secs(5),
    unclaimed: Duration::from_secs(60),
};

const NAMED: StreamSettings = StreamSettings { ids: StreamIds::Named, ..NUMERIC };

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
    let table = StreamTable::new(NUMERIC);
    let mut host = open(&table, 7).await;
    let mut streams = table.claim(&[StreamId::number(7)]).expect("it waits");
    assert_eq!(table.claim(&[StreamId::number(7)]).expect_err("it is taken"), StreamId::number(7));
    let mut guest = streams.take(&StreamId::number(7)).expect("it was claimed");
    guest.write_all(b"x").await.expect("write");
    assert_eq!(host.read_u8().await.expect("read"), b'x');
}

#[tokio::test]
async fn an_id_that_comes_in_single_bytes_is_an_id() {
    let table = StreamTable::new(NUMERIC);
    let mut host = connect(&table);
    for byte in 258u32.to_be_bytes() {
        host.write_all(&[byte]).await.expect("write");
        tokio::task::yield_now().await;
    }
    assert_eq!(host.read_u32().await.expect("the echo"), 258);
}

#[tokio::test]
async fn a_second_stream_of_one_id_is_closed_and_the_first_stays() {
    let table = StreamTable::new(NUMERIC);
    let _first = open(&table, 7).await;
    let mut second = connect(&table);
    second.write_u32(7).await.expect("send the id");
    assert_closed(second).await;
    assert!(table.claim(&[StreamId::number(7)]).is_ok());
}

#[tokio::test]
async fn all_streams_of_a_request_are_claimed_or_none() {
    let table = StreamTable::new(NUMERIC);
    let _host = open(&table, 1).await;
    assert_eq!(
        table.claim(&[StreamId::number(1), StreamId::number(2)]).expect_err("2 is missing"),
        StreamId::number(2)
    );
    assert!(table.claim(&[StreamId::number(1)]).is_ok());
}

#[tokio::test]
async fn streams_of_a_refused_request_are_closed() {
    let table = StreamTable::new(NUMERIC);
    let host = open(&table, 1).await;
    table.discard(&[StreamId::number(1), StreamId::number(2)]);
    assert_closed(host).await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_host_is_closed_after_the_handshakes_time_and_delays_nobody() {
    let table = StreamTable::new(NUMERIC);
    let silent = connect(&table);
    let started = tokio::time::Instant::now();
    let _other = open(&table, 1).await;
    assert!(started.elapsed() < NUMERIC.handshake);
    assert_closed(silent).await;
    assert!(started.elapsed() >= NUMERIC.handshake);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_no_request_names_expires() {
    let table = StreamTable::new(NUMERIC);
    let host = open(&table, 1).await;
    let started = tokio::time::Instant::now();
    assert_closed(host).await;
    assert!(started.elapsed() >= NUMERIC.unclaimed);
    assert!(table.claim(&[StreamId::number(1)]).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_claimed_stream_does_not_expire() {
    let table = StreamTable::new(NUMERIC);
    let mut host = open(&table, 1).await;
    let mut streams = table.claim(&[StreamId::number(1)]).expect("it waits");
    tokio::time::sleep(NUMERIC.unclaimed * 2).await;
    let mut guest = streams.take(&StreamId::number(1)).expect("it was claimed");
    guest.write_all(b"x").await.expect("write");
    assert_eq!(host.read_u8().await.expect("read"), b'x');
}

#[tokio::test]
async fn the_oldest_stream_gives_way_to_a_new_one() {
    let table = StreamTable::new(NUMERIC);
    let mut hosts = Vec::new();
    for id in 0..=WAITING_MAX as u32 {
        hosts.push(open(&table, id).await);
    }
    assert_closed(hosts.swap_remove(0)).await;
    assert_eq!(table.table().waiting.len(), WAITING_MAX);
    assert!(table.claim(&[StreamId::number(1), StreamId::number(WAITING_MAX as u32)]).is_ok());
}

/// Waits until this many streams are waiting, which must be before any expires.
async fn waiting(table: &StreamTable, count: usize) {
    let reached = async {
        while table.table().waiting.len() != count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(NUMERIC.unclaimed / 4, reached).await.expect("in time");
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_host_has_gone_leaves() {
    let table = StreamTable::new(NUMERIC);
    let heard = open(&table, 1).await;
    let mut unheard = connect(&table);
    unheard.write_u32(2).await.expect("send the id");
    let mut halved = open(&table, 3).await;
    waiting(&table, 3).await;
    halved.shutdown().await.expect("half-close");
    drop((heard, unheard));
    waiting(&table, 1).await;
    assert!(table.table().waiting.contains_key(&StreamId::number(3)), "a half-close is the end of a stdin");
    drop(halved);
    waiting(&table, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_may_come_just_after_its_host_has_closed_an_empty_stdin() {
    let table = StreamTable::new(NUMERIC);
    let (first, second) = (open(&table, 1).await, open(&table, 2).await);
    drop(first);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(table.claim(&[StreamId::number(1), StreamId::number(2)]).is_ok());
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn what_a_host_wrote_before_it_went_is_kept() {
    let table = StreamTable::new(NUMERIC);
    let mut host = open(&table, 1).await;
    host.write_all(b"all").await.expect("write");
    drop(host);
    let gone = open(&table, 2).await;
    drop(gone);
    waiting(&table, 1).await;
    let mut second = connect(&table);
    second.write_u32(1).await.expect("send the id");
    assert_closed(second).await;
    let mut streams = table.claim(&[StreamId::number(1)]).expect("it waits");
    let mut stdin = streams.take(&StreamId::number(1)).expect("it was claimed");
    let mut all = Vec::new();
    stdin.read_to_end(&mut all).await.expect("read");
    assert_eq!(all, b"all");
}

#[tokio::test]
async fn the_id_of_a_host_that_has_gone_can_be_dialled_again() {
    let table = StreamTable::new(NUMERIC);
    for _ in 0..3 {
        drop(open(&table, 7).await);
    }
    let mut host = open(&table, 7).await;
    let mut streams = table.claim(&[StreamId::number(7)]).expect("it waits");
    let mut guest = streams.take(&StreamId::number(7)).expect("it was claimed");
    guest.write_all(b"x").await.expect("write");
    assert_eq!(host.read_u8().await.expect("read"), b'x', "it is the last one");
}

#[tokio::test(start_paused = true)]
async fn the_oldest_silent_host_gives_way() {
    let table = StreamTable::new(NUMERIC);
    let started = tokio::time::Instant::now();
    let oldest = connect(&table);
    tokio::task::yield_now().await;
    let _others: Vec<UnixStream> = (0..HANDSHAKES_MAX).map(|_| connect(&table)).collect();
    assert_closed(oldest).await;
    let _good = open(&table, 1).await;
    assert!(started.elapsed() < NUMERIC.handshake);
}

#[tokio::test(start_paused = true)]
async fn the_refused_are_bounded_like_those_in_their_handshake() {
    let table = StreamTable::new(NAMED);
    let started = tokio::time::Instant::now();
    let (_first, _) = say(&table, b"name", 8).await;
    // It is told, and does not go.
    let refusal = framed(b"stream \"name\" already exists");
    let (refused, answer) = say(&table, b"name", refusal.len()).await;
    assert_eq!(answer, refusal);
    assert_eq!(table.table().handshakes.len(), 1, "it is counted");
    let _others: Vec<UnixStream> = (0..HANDSHAKES_MAX).map(|_| connect(&table)).collect();
    let error = loop {
        // The paused clock stands still while this is busy.
        tokio::task::yield_now().await;
        if let Err(error) = refused.try_write(b"x") {
            break error;
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert!(started.elapsed() < NAMED.handshake);
}

// ---- by name

/// What a host sends or is sent: a length and a text.
fn framed(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u32).to_be_bytes(), text].concat()
}

/// Says a name, and gives what comes back up to `len` bytes.
async fn say(table: &StreamTable, name: &[u8], len: usize) -> (UnixStream, Vec<u8>) {
    let mut host = connect(table);
    host.write_all(&framed(name)).await.expect("send the name");
    let mut answer = vec![0; len];
    host.read_exact(&mut answer).await.expect("the answer");
    (host, answer)
}

#[tokio::test]
async fn a_name_is_echoed_and_a_second_of_it_is_told_so() {
    let table = StreamTable::new(NAMED);
    let name = "c-stdout-1700000000-\u{e9}\"/..";
    let (_first, answer) = say(&table, name.as_bytes(), 4 + name.len()).await;
    assert_eq!(answer, framed(name.as_bytes()));
    let refusal = framed(format!("stream \"{name}\" already exists").as_bytes());
    let (second, answer) = say(&table, name.as_bytes(), refusal.len()).await;
    assert_eq!(answer, refusal);
    assert_closed(second).await;
    let id = StreamIds::Named.parse(name).expect("a name");
    assert!(table.claim(&[id]).is_ok(), "the first is kept");
    say(&table, name.as_bytes(), 4 + name.len()).await;
}

#[tokio::test]
async fn names_that_no_uri_could_say_are_refused() {
    let table = StreamTable::new(NAMED);
    let too_long = (super::super::uri::ID_MAX as u32 + 1).to_be_bytes();
    for bytes in [&framed(b"")[..], &framed(b"\xff"), &too_long, &u32::MAX.to_be_bytes()] {
        let mut host = connect(&table);
        host.write_all(bytes).await.expect("send the name");
        assert_closed(host).await;
    }
    let longest = vec![b'x'; super::super::uri::ID_MAX];
    let (_, answer) = say(&table, &longest, 4 + longest.len()).await;
    assert_eq!(answer, framed(&longest));
}
