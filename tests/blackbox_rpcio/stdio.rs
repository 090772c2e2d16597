//! The StdIO service: stdin and output as calls.

use std::future::Future;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use vminit_shim::api::containerd::api::CloseIORequest;
use vminit_shim::api::protobuf::Message;
use vminit_shim::api::service;
use vminit_shim::api::stdio::{CloseStdinRequest, OutputChunk, ReadOutputRequest, WriteStdinRequest};
use vminit_shim::api::stdio_ttrpc::StdIoClient;
use vminit_shim::api::ttrpc::proto::{Codec, Request};
use vminit_shim::api::ttrpc::r#async::ClientStreamReceiver;
use vminit_shim::api::ttrpc::{self, Code};
use vminit_shim::client::{Guest, INIT};
use vminitd_test_support::Daemon;

use crate::rig::{
    answers, assert_same, create, exec, file, finish, long, pattern, refusal, running, soon, text, MIB,
};

const SERVED: [&str; 3] = ["rpcio://a/", "rpcio://a/", "rpcio://a/"];

fn stdio(guest: &Guest) -> StdIoClient {
    StdIoClient::new(guest.client.raw())
}

fn output_of(id: &str, exec_id: &str) -> ReadOutputRequest {
    ReadOutputRequest { container_id: id.into(), exec_id: exec_id.into(), ..Default::default() }
}

/// Queues a write on the connection, in the order of the calls.
fn write(guest: &Guest, id: &str, data: &[u8]) -> impl Future<Output = ttrpc::Result<u32>> {
    let request = WriteStdinRequest { container_id: id.into(), data: data.to_vec(), ..Default::default() };
    let client = stdio(guest);
    async move { client.write_stdin(long(), &request).await.map(|reply| reply.bytes_written) }
}

async fn close(guest: &Guest, id: &str) -> ttrpc::Result<()> {
    let request = CloseStdinRequest { container_id: id.into(), ..Default::default() };
    stdio(guest).close_stdin(long(), &request).await.map(drop)
}

/// A subscription that has begun: the answer to a later call on its connection says so.
async fn subscribed(guest: &Guest, request: ReadOutputRequest) -> ClientStreamReceiver<OutputChunk> {
    let stream = stdio(guest).read_stdout(ttrpc::context::with_timeout(0), &request).await;
    answers(guest).await;
    stream.expect("the call is sent")
}

/// Everything up to the message that says eof, which is the last.
async fn rest(mut stream: ClientStreamReceiver<OutputChunk>) -> ttrpc::Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(chunk) = soon(stream.recv()).await? {
        all.extend(&chunk.data);
        if chunk.eof {
            assert!(chunk.data.is_empty());
            assert!(soon(stream.recv()).await?.is_none(), "nothing comes after eof");
            return Ok(all);
        }
    }
    panic!("the stream ended without eof")
}

async fn stdout(guest: &Guest, id: &str, exec_id: &str) -> ttrpc::Result<Vec<u8>> {
    rest(stdio(guest).read_stdout(ttrpc::context::with_timeout(0), &output_of(id, exec_id)).await?).await
}

async fn stderr(guest: &Guest, id: &str, exec_id: &str) -> ttrpc::Result<Vec<u8>> {
    rest(stdio(guest).read_stderr(ttrpc::context::with_timeout(0), &output_of(id, exec_id)).await?).await
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
    let sent = pattern(3 * MIB);
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
    assert_eq!(refusal(write(&guest, "a", b"late").await), Code::FAILED_PRECONDITION);
    assert_eq!(finish(&guest, "a", INIT).await, 0);
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
    let request = CloseIORequest { id: "a".into(), stdin: true, ..Default::default() };
    guest.client.task().close_io(long(), &request).await.expect("close");
    assert_eq!(stdout(&guest, "a", "").await.expect("a good end"), b"all");
    assert_eq!(finish(&guest, "a", INIT).await, 0);
    daemon.stop().await;
}

#[tokio::test]
async fn a_write_waits_for_the_process_and_holds_up_nobody_else() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    running(&guest, "a", &["forever"], SERVED).await;
    let other = daemon.guest().await;
    let stuck = write(&guest, "a", &pattern(MIB));
    let deleted = async {
        answers(&guest).await;
        other.kill("a", INIT, 9).await.expect("kill");
    };
    let (stuck, ()) = tokio::join!(stuck, deleted);
    assert_eq!(refusal(stuck), Code::FAILED_PRECONDITION);
    assert_eq!(finish(&guest, "a", INIT).await, 137);
    daemon.stop().await;
}

#[tokio::test]
async fn too_much_that_waits_is_refused() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    running(&guest, "a", &["forever"], SERVED).await;
    let big = pattern(3 * MIB);
    let (one, two, three, ()) =
        tokio::join!(write(&guest, "a", &big), write(&guest, "a", &big), write(&guest, "a", &big), async {
            answers(&guest).await;
            guest.kill("a", INIT, 9).await.expect("kill");
        });
    assert_eq!([one, two].map(refusal), [Code::FAILED_PRECONDITION; 2]);
    assert_eq!(refusal(three), Code::RESOURCE_EXHAUSTED);
    finish(&guest, "a", INIT).await;
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
    assert_eq!(refusal(stdout(&guest, "a", "").await), Code::NOT_FOUND);
    daemon.stop().await;
}

#[tokio::test]
async fn two_subscribers_get_all_of_it() {
    let daemon = Daemon::with_fake_runc().await;
    let (guest, other) = (daemon.guest().await, daemon.guest().await);
    create(&guest, "a", &["/bin/cat"], SERVED).await.expect("create");
    let one = subscribed(&guest, output_of("a", "")).await;
    let two = subscribed(&other, output_of("a", "")).await;
    guest.start("a", INIT).await.expect("start");
    // Little enough for the slower of the two to keep up.
    let sent = pattern(MIB / 2);
    let writing = async {
        write(&guest, "a", &sent).await.expect("it is written");
        close(&guest, "a").await.expect("it is closed");
    };
    let (one, two, ()) = tokio::join!(rest(one), rest(two), writing);
    assert_same(&one.expect("a good end"), &sent);
    assert_same(&two.expect("a good end"), &sent);
    finish(&guest, "a", INIT).await;
    daemon.stop().await;
}

/// A connection by hand: the client of the ttrpc crate reads whatever comes, and so is never slow.
struct Raw(UnixStream);

const HEADER_BYTES: usize = 10;
const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;
const REMOTE_CLOSED: u8 = 1;

impl Raw {
    async fn subscribe(daemon: &Daemon, id: &str) -> Raw {
        let mut raw = Raw(daemon.rpc().connect().await.expect("connect"));
        let payload = output_of(id, "").write_to_bytes().expect("it encodes");
        raw.request(1, REMOTE_CLOSED, service::STDIO, "ReadStdout", payload).await;
        raw.request(3, 0, service::SYSTEM, "Info", Vec::new()).await;
        assert_eq!(raw.frame().await.0, 3, "the subscription has begun, and nothing is there yet");
        raw
    }

    async fn request(&mut self, stream_id: u32, flags: u8, service: &str, method: &str, payload: Vec<u8>) {
        let request =
            Request { service: service.into(), method: method.into(), payload, ..Default::default() };
        let body = request.encode().expect("it encodes");
        let length = (body.len() as u32).to_be_bytes();
        let frame = [&length[..], &stream_id.to_be_bytes(), &[REQUEST, flags], &body].concat();
        self.0.write_all(&frame).await.expect("it is sent");
    }

    /// Stream id, type and payload of the next frame.
    async fn frame(&mut self) -> (u32, u8, Vec<u8>) {
        let mut header = [0; HEADER_BYTES];
        soon(self.0.read_exact(&mut header)).await.expect("a header");
        let number = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|n| header[at + n]));
        let mut payload = vec![0; number(0) as usize];
        soon(self.0.read_exact(&mut payload)).await.expect("a payload");
        (number(4), header[8], payload)
    }

    /// What came before the cut, which must come.
    async fn until_cut_off(mut self) -> Vec<u8> {
        let mut got = Vec::new();
        loop {
            let (stream_id, kind, payload) = self.frame().await;
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
    let expected = pattern(16 * MIB);
    let path = file(&daemon, &expected);
    create(&guest, "a", &["/bin/cat", text(&path)], SERVED).await.expect("create");
    let slow = Raw::subscribe(&daemon, "a").await;
    let fast = subscribed(&guest, output_of("a", "")).await;
    guest.start("a", INIT).await.expect("start");
    assert_same(&rest(fast).await.expect("a good end"), &expected);
    assert_eq!(finish(&guest, "a", INIT).await, 0, "nobody held it up");
    let got = slow.until_cut_off().await;
    assert!(expected.starts_with(&got) && got.len() < expected.len());
    daemon.stop().await;
}

#[tokio::test]
async fn what_a_broken_connection_did_not_take_goes_to_the_next_subscriber() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    let expected = pattern(4 * MIB);
    let path = file(&daemon, &expected);
    create(&guest, "a", &["/bin/cat", text(&path)], SERVED).await.expect("create");
    let mut leaving = Raw::subscribe(&daemon, "a").await;
    guest.start("a", INIT).await.expect("start");
    let (_, _, first) = leaving.frame().await;
    let first = OutputChunk::parse_from_bytes(&first).expect("it decodes").data;
    assert!(expected.starts_with(&first));
    drop(leaving);
    assert_eq!(finish_unread(&guest, "a").await, 0, "nobody reads, and it ends all the same");
    let last = stdout(&guest, "a", "").await.expect("a good end");
    assert!(last.len() <= MIB && expected.ends_with(&last));
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
    exec(&guest, "a", "e", &["/bin/cat"], SERVED).await;
    exec(&guest, "a", "never", &["/bin/cat"], SERVED).await;
    let (reading, waiting) =
        (subscribed(&guest, output_of("a", "e")).await, subscribed(&guest, output_of("a", "never")).await);
    let request = |data: &[u8]| WriteStdinRequest {
        container_id: "a".into(),
        exec_id: "e".into(),
        data: data.to_vec(),
        ..Default::default()
    };
    let written = soon(stdio(&guest).write_stdin(long(), &request(b"hello"))).await;
    assert_eq!(written.expect("the pipe takes it").bytes_written, 5);
    guest.start("a", "e").await.expect("start");
    let close = CloseStdinRequest { container_id: "a".into(), exec_id: "e".into(), ..Default::default() };
    stdio(&guest).close_stdin(long(), &close).await.expect("close");
    assert_eq!(rest(reading).await.expect("a good end"), b"hello");
    guest.wait("a", "e").await.expect("wait");
    assert_eq!(
        refusal(stdio(&guest).write_stdin(long(), &request(b"late")).await),
        Code::FAILED_PRECONDITION
    );
    guest.delete("a", "never").await.expect("delete");
    assert_eq!(rest(waiting).await.expect("a good end"), b"", "Delete ends what waits");
    guest.kill("a", INIT, 9).await.expect("kill");
    finish(&guest, "a", INIT).await;
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
        assert_eq!(
            refusal(stdio(&guest).write_stdin(long(), &write).await),
            code,
            "WriteStdin {id}/{exec_id}"
        );
        assert_eq!(
            refusal(stdio(&guest).close_stdin(long(), &close).await),
            code,
            "CloseStdin {id}/{exec_id}"
        );
        assert_eq!(refusal(stdout(&guest, id, &exec_id).await), code, "ReadStdout {id}/{exec_id}");
        if id != "half" {
            assert_eq!(refusal(stderr(&guest, id, &exec_id).await), code, "ReadStderr {id}/{exec_id}");
        }
    }
    for id in ["null", "half"] {
        guest.kill(id, INIT, 9).await.expect("kill");
        finish(&guest, id, INIT).await;
    }
    daemon.stop().await;
}
