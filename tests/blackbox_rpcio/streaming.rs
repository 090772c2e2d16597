//! The Streaming service: what is opened there is a stream like those of the stream port.

use vminit_shim::api::containerd::api::CreateTaskRequest;
use vminit_shim::api::protobuf::well_known_types::any::Any;
use vminit_shim::api::protobuf::Message;
use vminit_shim::api::streaming::StreamInit;
use vminit_shim::api::streaming_ttrpc::StreamingClient;
use vminit_shim::api::transfer::{Data, WindowUpdate};
use vminit_shim::api::ttrpc::r#async::ClientStream;
use vminit_shim::api::ttrpc::{self, Code};
use vminit_shim::api::type_url;
use vminit_shim::client::{context, Guest, INIT};
use vminit_shim::spec;
use vminitd_test_support::calls::{reap, rpc_code};
use vminitd_test_support::chance::noise;
use vminitd_test_support::{Daemon, MIB, PATIENCE};

use crate::rig::{answers, assert_same, create, file, running, soon, text};

const WINDOW: usize = 64 * 1024;
const MESSAGE: usize = 32 * 1024;

/// A host's end of one stream, with its side of the window protocol.
struct HostStream {
    stream: ClientStream<Any, Any>,
    /// What the guest may send, and what we may.
    granted: usize,
    credit: usize,
    received: Vec<u8>,
}

fn any(name: &str, message: &impl Message) -> Any {
    let value = message.write_to_bytes().expect("it encodes");
    Any { type_url: name.to_owned(), value, ..Default::default() }
}

fn init(id: &str) -> Any {
    any(type_url::STREAM_INIT, &StreamInit { id: id.to_owned(), ..Default::default() })
}

impl HostStream {
    /// Sends a first message and gives the answer.
    async fn begin(guest: &Guest, first: &Any) -> Result<HostStream, Code> {
        let opened = StreamingClient::new(guest.client.raw()).stream(ttrpc::context::with_timeout(0)).await;
        let mut stream = opened.expect("the call is sent");
        stream.send(first).await.expect("it is sent");
        let answer = soon(stream.recv()).await.map_err(rpc_code)?;
        assert_eq!(answer.type_url, type_url::EMPTY);
        Ok(HostStream { stream, granted: 0, credit: 0, received: Vec::new() })
    }

    async fn open(guest: &Guest, id: &str) -> HostStream {
        HostStream::begin(guest, &init(id)).await.expect("the stream is open")
    }

    async fn grant(&mut self, update: usize) {
        self.granted += update;
        let update = WindowUpdate { update: update as i32, ..Default::default() };
        self.stream.send(&any(type_url::WINDOW_UPDATE, &update)).await.expect("it is sent");
    }

    async fn send(&mut self, data: &[u8]) -> Result<(), ttrpc::Error> {
        let data = Data { data: data.to_vec(), ..Default::default() };
        self.stream.send(&any(type_url::DATA, &data)).await
    }

    /// Takes one message; false at the end.
    async fn receive(&mut self) -> Result<bool, Code> {
        let message = match soon(self.stream.recv()).await {
            Ok(message) => message,
            Err(ttrpc::Error::Eof | ttrpc::Error::RemoteClosed) => return Ok(false),
            Err(error) => return Err(rpc_code(error)),
        };
        if message.type_url == type_url::WINDOW_UPDATE {
            let update = WindowUpdate::parse_from_bytes(&message.value).expect("it decodes").update;
            assert_eq!(update, WINDOW as i32);
            self.credit += WINDOW;
            return Ok(true);
        }
        assert_eq!(message.type_url, type_url::DATA);
        let data = Data::parse_from_bytes(&message.value).expect("it decodes").data;
        assert!((1..=MESSAGE).contains(&data.len()), "a message of {} bytes", data.len());
        self.granted = self.granted.checked_sub(data.len()).expect("no more than was granted is sent");
        self.received.extend(data);
        Ok(true)
    }

    /// Reads to the end, granting `step` bytes whenever nothing is left.
    async fn read_to_end(mut self, step: usize) -> Vec<u8> {
        loop {
            if self.granted == 0 {
                self.grant(step).await;
            }
            if !self.receive().await.expect("a good end") {
                return self.received;
            }
        }
    }

    /// Sends all of it, as it is granted.
    async fn push(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            while self.credit == 0 {
                assert!(self.receive().await.expect("credit"), "the stream is open");
            }
            let (now, later) = rest.split_at(rest.len().min(self.credit).min(MESSAGE));
            self.send(now).await.expect("it is sent");
            self.credit -= now.len();
            rest = later;
        }
    }

    /// Sends all of it, then closes the half; the call ends well.
    async fn write(mut self, bytes: &[u8]) {
        self.push(bytes).await;
        self.stream.close_send().await.expect("it is closed");
        while self.receive().await.expect("a good end") {}
    }
}

#[tokio::test]
async fn all_of_a_stdout_arrives_with_wait_and_delete_at_once() {
    let daemon = Daemon::with_fake_runc().await;
    let before = daemon.open_descriptors();
    let guest = daemon.guest().await;
    let expected = noise(16 * MIB);
    let path = file(&daemon, &expected);
    let stream = HostStream::open(&guest, "7").await;
    running(&guest, "a", &["/bin/cat", text(&path)], ["", "stream://7", ""]).await;
    let (status, got) = tokio::join!(reap(&guest, "a", INIT), stream.read_to_end(WINDOW));
    assert_eq!(status, 0);
    assert_same(&got, &expected);
    drop(guest);
    daemon.assert_nothing_left(before).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_reader_that_grants_little_gets_all_and_holds_up_nobody() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    let expected = noise(MIB);
    let path = file(&daemon, &expected);
    // One that is never read, one that is read in steps that fit no message.
    let stuck = HostStream::open(&guest, "1").await;
    let slow = HostStream::open(&guest, "2").await;
    running(&guest, "stuck", &["/bin/cat", text(&path)], ["", "stream://1", ""]).await;
    running(&guest, "slow", &["/bin/cat", text(&path)], ["", "stream://2", ""]).await;
    assert_same(&slow.read_to_end(1021).await, &expected);
    answers(&guest).await;
    assert_eq!(reap(&guest, "slow", INIT).await, 0);
    drop(stuck);
    guest.kill("stuck", INIT, 9).await.expect("kill");
    reap(&guest, "stuck", INIT).await;
    daemon.stop().await;
}

#[tokio::test]
async fn stdin_flows_through_cat_to_stdout() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    let sent = noise(16 * MIB);
    let (stdin, stdout) = (HostStream::open(&guest, "1").await, HostStream::open(&guest, "2").await);
    running(&guest, "a", &["/bin/cat"], ["stream://1", "stream://2", ""]).await;
    let ((), got) = tokio::join!(stdin.write(&sent), stdout.read_to_end(WINDOW));
    assert_same(&got, &sent);
    assert_eq!(reap(&guest, "a", INIT).await, 0, "cat saw the end of its stdin");
    daemon.stop().await;
}

#[tokio::test]
async fn the_streams_of_a_terminal_are_a_stdin_and_an_output() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    let (mut stdin, mut stdout) = (HostStream::open(&guest, "1").await, HostStream::open(&guest, "2").await);
    let config = spec::container(&["write", "stdout", "shown", ";", "exit", "0"]);
    let request = CreateTaskRequest {
        id: "a".into(),
        bundle: guest.bundle("a", &config).await.expect("bundle"),
        stdin: "stream://1".into(),
        stdout: "stream://2".into(),
        terminal: true,
        ..Default::default()
    };
    guest.client.task().create(context(PATIENCE, "default"), &request).await.expect("create");
    assert!(stdin.receive().await.expect("it is open"));
    assert_eq!(stdin.credit, WINDOW);
    guest.start("a", INIT).await.expect("start");
    stdout.grant(WINDOW).await;
    let shown = async { while stdout.receive().await.expect("a good end") {} };
    let (status, ()) = tokio::join!(reap(&guest, "a", INIT), shown);
    assert_eq!(status, 0);
    assert_same(&stdout.received, b"shown");
    assert_eq!(stdout.credit, 0, "who only reads is granted nothing");
    daemon.stop().await;
}

#[tokio::test]
async fn an_id_is_taken_once_and_free_again_when_its_client_goes() {
    let daemon = Daemon::with_fake_runc().await;
    let (guest, other) = (daemon.guest().await, daemon.guest().await);
    let first = HostStream::open(&guest, "5").await;
    assert_eq!(HostStream::begin(&other, &init("5")).await.err(), Some(Code::ALREADY_EXISTS));
    assert!(other.streams.open(5).await.is_err(), "the stream port has the same ids");
    drop(first);
    drop(guest);
    // When the daemon sees that the client has gone is its own affair.
    soon(async { while HostStream::begin(&other, &init("5")).await.is_err() {} }).await;
    daemon.stop().await;
}

#[tokio::test]
async fn what_is_no_beginning_is_an_invalid_argument() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    let no_init = any(type_url::DATA, &Data::new());
    let garbage = Any { type_url: type_url::STREAM_INIT.into(), value: vec![0xff], ..Default::default() };
    for first in [no_init, garbage, init(""), init("x"), init("-1"), init("4294967296")] {
        assert_eq!(HostStream::begin(&guest, &first).await.err(), Some(Code::INVALID_ARGUMENT), "{first}");
    }
    let prefixed = Any { type_url: format!("type.googleapis.com/{}", type_url::STREAM_INIT), ..init("9") };
    HostStream::begin(&guest, &prefixed).await.expect("a prefix does no harm");
    daemon.stop().await;
}

#[tokio::test]
async fn a_client_that_breaks_the_protocol_is_ended() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    let overrun = any(type_url::DATA, &Data { data: vec![0; 2 * WINDOW + 1], ..Default::default() });
    let no_update = any(type_url::WINDOW_UPDATE, &WindowUpdate { update: -1, ..Default::default() });
    let cases = [
        (overrun, Code::RESOURCE_EXHAUSTED),
        (no_update, Code::INVALID_ARGUMENT),
        (init("1"), Code::INVALID_ARGUMENT),
        (
            Any { type_url: type_url::DATA.into(), value: vec![0xff], ..Default::default() },
            Code::INVALID_ARGUMENT,
        ),
    ];
    for (message, code) in cases {
        let mut stream = HostStream::open(&guest, "1").await;
        stream.stream.send(&message).await.expect("it is sent");
        let end = loop {
            match stream.receive().await {
                Ok(more) => assert!(more, "it does not end well"),
                Err(code) => break code,
            }
        };
        assert_eq!(end, code, "{}", message.type_url);
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_client_that_vanishes_blocks_no_process() {
    let daemon = Daemon::with_fake_runc().await;
    let (guest, leaving) = (daemon.guest().await, daemon.guest().await);
    let path = file(&daemon, &noise(4 * MIB));
    let mut stdout = HostStream::open(&leaving, "1").await;
    let stdin = HostStream::open(&leaving, "2").await;
    running(&guest, "out", &["/bin/cat", text(&path)], ["", "stream://1", ""]).await;
    running(&guest, "in", &["/bin/cat"], ["stream://2", "", ""]).await;
    stdout.grant(1).await;
    while stdout.received.is_empty() {
        stdout.receive().await.expect("a byte");
    }
    drop((stdout, stdin, leaving));
    assert_eq!(reap(&guest, "out", INIT).await, 0, "its output was drained");
    assert_eq!(reap(&guest, "in", INIT).await, 0, "its stdin ended");
    daemon.stop().await;
}

#[tokio::test]
async fn streams_end_when_a_container_that_never_ran_is_deleted() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    let mut stdin = HostStream::open(&guest, "1").await;
    let stdout = HostStream::open(&guest, "2").await;
    create(&guest, "a", &["forever"], ["stream://1", "stream://2", ""]).await.expect("create");
    guest.delete("a", INIT).await.expect("delete");
    while stdin.receive().await.expect("a good end") {}
    assert_same(&stdout.read_to_end(1).await, &[]);
    daemon.stop().await;
}

/// What nobody reads is granted and thrown away: a host is not left in its write for ever.
#[tokio::test]
async fn a_host_may_write_to_a_process_that_has_ended_until_it_closes_its_half_or_delete() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    let (closing, mut open) = (HostStream::open(&guest, "1").await, HostStream::open(&guest, "2").await);
    for (id, stdin) in [("closing", "stream://1"), ("open", "stream://2")] {
        running(&guest, id, &["exit", "0"], [stdin, "", ""]).await;
        assert_eq!(guest.wait(id, INIT).await.expect("wait").status, 0);
    }
    // Many windows' worth.
    let sent = noise(2 * MIB);
    closing.write(&sent).await;
    open.push(&sent).await;
    for id in ["closing", "open"] {
        guest.delete(id, INIT).await.expect("delete");
    }
    while open.receive().await.expect("a good end") {}
    daemon.stop().await;
}

#[tokio::test]
async fn an_unclaimed_stream_does_not_hold_up_the_stop() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    let mut stream = HostStream::open(&guest, "1").await;
    daemon.terminate();
    while stream.receive().await.expect("a good end") {}
    drop((stream, guest));
    daemon.stopped_in_order().await;
}
