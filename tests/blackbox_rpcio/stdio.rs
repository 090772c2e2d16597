//! The StdIO service: stdin and output as calls.

use std::future::Future;

use vminit_shim::api::protobuf::Message;
use vminit_shim::api::service;
use vminit_shim::api::stdio::{CloseStdinRequest, OutputChunk, ReadOutputRequest, WriteStdinRequest};
use vminit_shim::api::stdio_ttrpc::StdIoClient;
use vminit_shim::api::ttrpc::proto::Codec;
use vminit_shim::api::ttrpc::r#async::ClientStreamReceiver;
use vminit_shim::api::ttrpc::{self, Code};
use vminit_shim::client::{Guest, INIT};
use vminitd_test_support::calls::{close_io, exec_with_uris, patient, reap, rpc_code, Uris};
use vminitd_test_support::chance::noise;
use vminitd_test_support::wire::{self, frame, RawConnection, DATA, REMOTE_CLOSED, REQUEST, RESPONSE};
use vminitd_test_support::{Daemon, MIB};

use crate::rig::{answers, assert_same, create, file, running, soon, text};

const SERVED: Uris<'_> = ["rpcio://a/", "rpcio://a/", "rpcio://a/"];

fn stdio(guest: &Guest) -> StdIoClient {
    StdIoClient::new(guest.client.raw())
}

fn output_of(id: &str, exec_id: &str) -> ReadOutputRequest {
    ReadOutputRequest { container_id: id.into(), exec_id: exec_id.into(), ..Default::default() }
}

/// Queues a write on the connection, in the order of the calls.
fn write(guest: &Guest, id: &str, data: &[u8]) -> impl Future<Output = Result<u32, Code>> {
    let request = WriteStdinRequest { container_id: id.into(), data: data.to_vec(), ..Default::default() };
    let client = stdio(guest);
    async move {
        let reply = client.write_stdin(patient(), &request).await.map_err(rpc_code)?;
        Ok(reply.bytes_written)
    }
}

async fn close(guest: &Guest, id: &str) -> Result<(), Code> {
    let request = CloseStdinRequest { container_id: id.into(), ..Default::default() };
    stdio(guest).close_stdin(patient(), &request).await.map(drop).map_err(rpc_code)
}

/// A subscription that has begun: the answer to a later call on its connection says so.
async fn subscribed(guest: &Guest, request: ReadOutputRequest) -> ClientStreamReceiver<OutputChunk> {
    let stream = stdio(guest).read_stdout(ttrpc::context::with_timeout(0), &request).await;
    answers(guest).await;
    stream.expect("the call is sent")
}

/// Everything up to the message that says eof, which is the last.
async fn rest(mut stream: ClientStreamReceiver<OutputChunk>) -> Result<Vec<u8>, Code> {
    let mut all = Vec::new();
    while let Some(chunk) = soon(stream.recv()).await.map_err(rpc_code)? {
        all.extend(&chunk.data);
        if chunk.eof {
            assert!(chunk.data.is_empty());
            assert!(soon(stream.recv()).await.map_err(rpc_code)?.is_none(), "nothing comes after eof");
            return Ok(all);
        }
    }
    panic!("the stream ended without eof")
}

async fn stdout(guest: &Guest, id: &str, exec_id: &str) -> Result<Vec<u8>, Code> {
    let stream = stdio(guest).read_stdout(ttrpc::context::with_timeout(0), &output_of(id, exec_id)).await;
    rest(stream.map_err(rpc_code)?).await
}

async fn stderr(guest: &Guest, id: &str, exec_id: &str) -> Result<Vec<u8>, Code> {
    let stream = stdio(guest).read_stderr(ttrpc::context::with_timeout(0), &output_of(id, exec_id)).await;
    rest(stream.map_err(rpc_code)?).await
}

#[tokio::test]
async fn writes_reach_cat_in_order_and_close_comes_behind_them() {
    let daemon = Daemon::with_fake_runc().await;
    let before = daemon.open_descriptors();
    let guest = daemon.guest().await;
    create(&guest, "a", &["/bin/cat"], SERVED).await.expect("create");
    assert_eq!(write(&guest, "a", b"before start").await.expect("the pipe takes it"), 12);
    let reading = subscribed(&guest, output_of("a", "")).await;
    guest.start("a", INIT).await.expect("start");
    let sent = noise(3 * MIB);
    let mut parts = sent.chunks(MIB);
    let mut part = || write(&guest, "a", parts.next().expect("three parts"));
    // Polled in this order, so sent in this order; the last before the first is answered.
    let (one, two, three, closed, all) =
        tokio::join!(part(), part(), part(), close(&guest, "a"), rest(reading));
    for written in [one, two, three] {
        assert_eq!(written.expect("it is written"), MIB as u32);
    }
    closed.expect("it is closed");
    close(&guest, "a").await.expect("once more does no harm");
    assert_same(&all.expect("a good end"), &[&b"before start"[..], &sent].concat());
    assert_eq!(write(&guest, "a", b"late").await, Err(Code::FAILED_PRECONDITION));
    assert_eq!(reap(&guest, "a", INIT).await, 0);
    drop(guest);
    daemon.assert_nothing_left(before).await;
    daemon.stop().await;
}

#[tokio::test]
async fn close_io_ends_a_stdin_of_the_service_too() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    running(&guest, "a", &["/bin/cat"], SERVED).await;
    write(&guest, "a", b"all").await.expect("it is written");
    close_io(&guest, "a", INIT, true).await.expect("close");
    assert_eq!(stdout(&guest, "a", "").await.expect("a good end"), b"all");
    assert_eq!(reap(&guest, "a", INIT).await, 0);
    daemon.stop().await;
}

#[tokio::test]
async fn a_write_waits_for_the_process_and_holds_up_nobody_else() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    running(&guest, "a", &["forever"], SERVED).await;
    let other = daemon.guest().await;
    let stuck = write(&guest, "a", &noise(MIB));
    let deleted = async {
        answers(&guest).await;
        other.kill("a", INIT, 9).await.expect("kill");
    };
    let (stuck, ()) = tokio::join!(stuck, deleted);
    assert_eq!(stuck, Err(Code::FAILED_PRECONDITION));
    assert_eq!(reap(&guest, "a", INIT).await, 137);
    daemon.stop().await;
}

#[tokio::test]
async fn too_much_that_waits_is_refused() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    running(&guest, "a", &["forever"], SERVED).await;
    let big = noise(3 * MIB);
    let (one, two, three, ()) =
        tokio::join!(write(&guest, "a", &big), write(&guest, "a", &big), write(&guest, "a", &big), async {
            answers(&guest).await;
            guest.kill("a", INIT, 9).await.expect("kill");
        });
    assert_eq!([one, two], [Err(Code::FAILED_PRECONDITION); 2]);
    assert_eq!(three, Err(Code::RESOURCE_EXHAUSTED));
    reap(&guest, "a", INIT).await;
    daemon.stop().await;
}

#[tokio::test]
async fn stdout_and_stderr_are_told_apart_though_their_uris_are_the_same() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    let args = ["write", "stdout", "out", ";", "write", "stderr", "err"];
    running(&guest, "a", &args, SERVED).await;
    guest.wait("a", INIT).await.expect("wait");
    // Nobody had subscribed: what was written is kept, and goes to the first.
    assert_eq!(stdout(&guest, "a", "").await.expect("a good end"), b"out");
    assert_eq!(stderr(&guest, "a", "").await.expect("a good end"), b"err");
    assert_eq!(stdout(&guest, "a", "").await.expect("the end at once"), b"");
    guest.delete("a", INIT).await.expect("delete");
    assert_eq!(stdout(&guest, "a", "").await, Err(Code::NOT_FOUND));
    daemon.stop().await;
}

#[tokio::test]
async fn two_subscribers_get_all_of_it() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    let expected = noise(16 * MIB);
    let path = file(&daemon, &expected);
    create(&guest, "a", &["/bin/cat", text(&path)], SERVED).await.expect("create");
    let mut both = [Raw::subscribe(&daemon, "a").await, Raw::subscribe(&daemon, "a").await];
    guest.start("a", INIT).await.expect("start");
    let mut got = [Vec::new(), Vec::new()];
    while got[0].len().min(got[1].len()) < expected.len() {
        // Equally fast, and slower than the process.
        let behind = usize::from(got[1].len() < got[0].len());
        got[behind].extend(both[behind].take(1).await);
    }
    got.iter().for_each(|got| assert_same(got, &expected));
    assert_eq!(reap(&guest, "a", INIT).await, 0);
    daemon.stop().await;
}

/// A subscriber by hand: the client of the ttrpc crate reads whatever comes, and so is never slow.
struct Raw(RawConnection);

impl Raw {
    async fn subscribe(daemon: &Daemon, id: &str) -> Raw {
        let mut raw = RawConnection::open(daemon).await;
        let message = output_of(id, "").write_to_bytes().expect("it encodes");
        let subscribe = wire::request(service::STDIO, "ReadStdout", message);
        raw.send(&frame(1, REQUEST, REMOTE_CLOSED, &subscribe)).await;
        raw.send(&frame(3, REQUEST, 0, &wire::request(service::SYSTEM, "Info", Vec::new()))).await;
        assert_eq!(raw.receive().await.0, 3, "the subscription has begun, and nothing is there yet");
        Raw(raw)
    }

    /// So many bytes of the output, and what else came with them, which must come.
    async fn take(&mut self, bytes: usize) -> Vec<u8> {
        let mut got = Vec::new();
        while got.len() < bytes {
            let (_, kind, payload) = self.0.receive().await;
            assert_eq!(kind, DATA, "it is not cut off");
            got.extend(OutputChunk::parse_from_bytes(&payload).expect("it decodes").data);
        }
        got
    }

    /// What came before the cut, which must come.
    async fn until_cut_off(mut self) -> Vec<u8> {
        let mut got = Vec::new();
        loop {
            let (stream_id, kind, payload) = self.0.receive().await;
            assert_eq!(stream_id, 1);
            if kind == RESPONSE {
                let response = ttrpc::Response::decode(&payload).expect("it decodes");
                assert_eq!(response.status().code(), Code::RESOURCE_EXHAUSTED);
                return got;
            }
            let chunk = OutputChunk::parse_from_bytes(&payload).expect("it decodes");
            assert!(!chunk.eof, "it was to be cut off");
            got.extend(chunk.data);
        }
    }
}

#[tokio::test]
async fn a_slow_subscriber_is_cut_off_and_the_other_gets_all() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    let expected = noise(16 * MIB);
    let path = file(&daemon, &expected);
    create(&guest, "a", &["/bin/cat", text(&path)], SERVED).await.expect("create");
    let slow = Raw::subscribe(&daemon, "a").await;
    let fast = subscribed(&guest, output_of("a", "")).await;
    guest.start("a", INIT).await.expect("start");
    assert_same(&rest(fast).await.expect("a good end"), &expected);
    assert_eq!(reap(&guest, "a", INIT).await, 0, "nobody held it up");
    let got = slow.until_cut_off().await;
    assert!(expected.starts_with(&got) && got.len() < expected.len());
    daemon.stop().await;
}

#[tokio::test]
async fn what_a_broken_connection_did_not_take_goes_to_the_next_subscriber() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    let expected = noise(MIB / 2);
    let (before, after) = expected.split_at(64 * 1024);
    create(&guest, "a", &["/bin/cat"], SERVED).await.expect("create");
    let mut leaving = Raw::subscribe(&daemon, "a").await;
    guest.start("a", INIT).await.expect("start");
    write(&guest, "a", before).await.expect("it is written");
    assert_same(&leaving.take(before.len()).await, before);
    drop(leaving);
    // Whether the daemon has seen the break by now makes no difference.
    write(&guest, "a", after).await.expect("it is written");
    close(&guest, "a").await.expect("it is closed");
    assert_eq!(finish_unread(&guest, "a").await, 0, "nobody reads, and it ends all the same");
    let last = stdout(&guest, "a", "").await.expect("a good end");
    // It begins where the broken connection stopped, or sooner: the break may come before its last bytes are counted.
    assert!(expected.ends_with(&last) && last.len() >= after.len(), "{} bytes are left", last.len());
    guest.delete("a", INIT).await.expect("delete");
    daemon.stop().await;
}

async fn finish_unread(guest: &Guest, id: &str) -> u32 {
    soon(guest.wait(id, INIT)).await.expect("wait").status
}

#[tokio::test]
async fn an_exec_is_served_before_its_start_and_ends_with_its_delete() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    running(&guest, "a", &["forever"], ["", "", ""]).await;
    exec_with_uris(&guest, "a", "e", &["/bin/cat"], SERVED, false).await.expect("exec");
    exec_with_uris(&guest, "a", "never", &["/bin/cat"], SERVED, false).await.expect("exec");
    let (reading, waiting) =
        (subscribed(&guest, output_of("a", "e")).await, subscribed(&guest, output_of("a", "never")).await);
    let request = |data: &[u8]| WriteStdinRequest {
        container_id: "a".into(),
        exec_id: "e".into(),
        data: data.to_vec(),
        ..Default::default()
    };
    let written = soon(stdio(&guest).write_stdin(patient(), &request(b"hello"))).await;
    assert_eq!(written.expect("the pipe takes it").bytes_written, 5);
    guest.start("a", "e").await.expect("start");
    let close = CloseStdinRequest { container_id: "a".into(), exec_id: "e".into(), ..Default::default() };
    stdio(&guest).close_stdin(patient(), &close).await.expect("close");
    assert_eq!(rest(reading).await.expect("a good end"), b"hello");
    guest.wait("a", "e").await.expect("wait");
    let late = stdio(&guest).write_stdin(patient(), &request(b"late")).await;
    assert_eq!(late.map_err(rpc_code), Err(Code::FAILED_PRECONDITION));
    guest.delete("a", "never").await.expect("delete");
    assert_eq!(rest(waiting).await.expect("a good end"), b"", "Delete ends what waits");
    guest.kill("a", INIT, 9).await.expect("kill");
    reap(&guest, "a", INIT).await;
    daemon.stop().await;
}

#[tokio::test]
async fn what_is_not_served_or_not_there_is_refused() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    running(&guest, "null", &["forever"], ["", "", ""]).await;
    running(&guest, "half", &["forever"], ["", "", "rpcio://"]).await;
    let cases = [
        ("bad/id", "", Code::INVALID_ARGUMENT),
        ("null", "bad/id", Code::INVALID_ARGUMENT),
        ("none", "", Code::NOT_FOUND),
        ("null", "none", Code::NOT_FOUND),
        ("null", "", Code::FAILED_PRECONDITION),
        ("half", "", Code::FAILED_PRECONDITION),
    ];
    for (id, exec_id, code) in cases {
        let (container_id, exec_id) = (id.to_owned(), exec_id.to_owned());
        let write = WriteStdinRequest {
            container_id: container_id.clone(),
            exec_id: exec_id.clone(),
            data: vec![0],
            ..Default::default()
        };
        let close = CloseStdinRequest { container_id, exec_id: exec_id.clone(), ..Default::default() };
        let written = stdio(&guest).write_stdin(patient(), &write).await.map_err(rpc_code);
        assert_eq!(written, Err(code), "WriteStdin {id}/{exec_id}");
        let closed = stdio(&guest).close_stdin(patient(), &close).await.map_err(rpc_code);
        assert_eq!(closed, Err(code), "CloseStdin {id}/{exec_id}");
        assert_eq!(stdout(&guest, id, &exec_id).await, Err(code), "ReadStdout {id}/{exec_id}");
        if id != "half" {
            assert_eq!(stderr(&guest, id, &exec_id).await, Err(code), "ReadStderr {id}/{exec_id}");
        }
    }
    for id in ["null", "half"] {
        guest.kill(id, INIT, 9).await.expect("kill");
        reap(&guest, id, INIT).await;
    }
    daemon.stop().await;
}
