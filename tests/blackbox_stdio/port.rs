//! The stream port and those who abuse it: the next good client is served at once, and nothing is left of them.
#![allow(
    clippy::disallowed_methods,
    reason = "the ban keeps children away from PID 1's back; this is not PID 1"
)]

use std::time::Duration;

use nix::sys::resource::{getrlimit, setrlimit, Resource};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;
use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::INIT;
use vminitd_test_support::{binaries, Daemon, Level, LIMIT};

use crate::rig::{Reader, Rig, Sum};

/// More than may be in their handshake at once.
const SILENT: usize = 1_100;

/// A good client is served within this, which is less than the time that a silent one is given.
const PROMPT: Duration = Duration::from_secs(3);

impl Rig {
    /// A connection that has said nothing yet.
    async fn dial(&self) -> UnixStream {
        self.guest.streams.endpoint.connect().await.expect("connect")
    }

    /// What every good client does: streams, a process, its output, its end.
    async fn serves(&self, id: &str) {
        let stdio = timeout(PROMPT, self.guest.stdio(false)).await.expect("at once").expect("streams");
        self.run(id, &["write", "stdout", id, ";", "exit", "0"], &stdio).await;
        let output = stdio.collect();
        assert_eq!(self.reap(id, INIT).await, 0);
        assert_eq!(output.finish().await.expect("output").0, id.as_bytes());
    }

    async fn serves_beside_the_silent(&self, id: &str) {
        let mut silent = Vec::new();
        for _ in 0..SILENT {
            silent.push(self.dial().await);
        }
        self.serves(id).await;
    }
}

/// Descriptors for a test that makes many connections; what the daemon starts with too.
fn raise_the_limit() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("getrlimit");
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(16_384), hard).expect("setrlimit");
}

async fn assert_closed(mut socket: UnixStream) {
    let end = timeout(LIMIT, socket.read(&mut [0; 8])).await.expect("it is closed");
    // A connection that is closed with bytes unread is reset (unix(7)).
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

#[tokio::test]
async fn silent_connections_delay_nobody_and_leave_nothing() {
    raise_the_limit();
    let rig = Rig::start().await;
    rig.serves("first").await;
    let descriptors = rig.daemon.open_descriptors();
    rig.serves_beside_the_silent("second").await;
    rig.daemon.assert_nothing_left(descriptors).await;
    // An allocator keeps what it once had: it must not need more the second time.
    let level = Level::of(&rig.daemon);
    rig.serves_beside_the_silent("third").await;
    level.is_back(&rig.daemon).await;
    rig.daemon.stop().await;
}

/// ttrpc-rust#297 and the hosts' own accept loops: EMFILE once was the end of them.
#[tokio::test]
async fn the_port_outlives_a_lack_of_descriptors() {
    raise_the_limit();
    let rig = Rig::start().await;
    rig.serves("before").await;
    let level = Level::of(&rig.daemon);
    rig.daemon.limit_descriptors(level.descriptors + 8);
    let mut silent = Vec::new();
    for _ in 0..64 {
        silent.push(rig.dial().await);
    }
    rig.daemon.logged("cannot accept").await;
    drop(silent);
    level.is_back(&rig.daemon).await;
    rig.daemon.limit_descriptors(4_096);
    rig.serves("after").await;
    rig.daemon.stop().await;
}

#[tokio::test]
async fn an_id_may_come_byte_by_byte_and_a_second_of_it_is_closed() {
    let rig = Rig::start().await;
    let (mut first, mut second) = (rig.dial().await, rig.dial().await);
    for byte in 70_000_u32.to_be_bytes() {
        first.write_all(&[byte]).await.expect("write");
        tokio::task::yield_now().await;
    }
    assert_eq!(first.read_u32().await.expect("the echo"), 70_000);
    second.write_u32(70_000).await.expect("write");
    assert_closed(second).await;
    rig.create_with("c", &["write", "stdout", "x"], ["", "stream://70000", ""]).await.expect("create");
    rig.guest.start("c", INIT).await.expect("start");
    assert_eq!(Reader::FAST.read(first).await, Sum::of(b"x"));
    assert_eq!(rig.reap("c", INIT).await, 0);
    rig.daemon.stop().await;
}

/// sbx-releases#163: a stream that was opened and given up.
#[tokio::test]
async fn clients_that_vanish_in_or_after_their_handshake_leave_nothing() {
    let rig = Rig::start().await;
    rig.serves("before").await;
    let level = Level::of(&rig.daemon);
    for n in 0..200_u32 {
        let mut socket = rig.dial().await;
        socket.write_all(&n.to_be_bytes()[..(n % 5) as usize]).await.expect("write");
        // Of those that have said all of it, every other one waits for the answer.
        if n % 10 == 4 {
            assert_eq!(socket.read_u32().await.expect("the echo"), n);
        }
    }
    level.is_back(&rig.daemon).await;
    // One that vanishes later is taken for a host that has closed its end, and the process is none the worse for it.
    let stdio = rig.guest.stdio(true).await.expect("streams");
    rig.create("c", &["/bin/cat"], &stdio).await;
    drop(stdio);
    rig.guest.start("c", INIT).await.expect("start");
    assert_eq!(rig.reap("c", INIT).await, 0);
    rig.serves("after").await;
    rig.daemon.stop().await;
}

#[tokio::test]
async fn streams_that_nobody_claims_keep_nobody_out() {
    raise_the_limit();
    let rig = Rig::start().await;
    let mut abandoned = Vec::new();
    for id in 0..SILENT as u32 {
        let mut socket = rig.dial().await;
        // Apart from the ids of the good clients.
        socket.write_u32(1_000_000 + id).await.expect("write");
        assert_eq!(socket.read_u32().await.expect("the echo"), 1_000_000 + id);
        abandoned.push(socket);
    }
    rig.serves("beside").await;
    drop(abandoned);
    rig.serves("after").await;
    rig.daemon.stop().await;
}

/// A host that failed before its request, and begins again with the same ids.
#[tokio::test]
async fn an_id_whose_client_vanished_can_be_dialled_again() {
    let rig = Rig::start().await;
    for _ in 0..2 {
        let mut socket = rig.dial().await;
        socket.write_u32(70_000).await.expect("write");
        assert_eq!(socket.read_u32().await.expect("the echo"), 70_000);
    }
    rig.daemon.stop().await;
}

#[tokio::test]
async fn streams_belong_to_one_process_and_are_all_taken_or_none() {
    let rig = Rig::start().await;
    let stdio = rig.guest.stdio(false).await.expect("streams");
    let [_, out, err] = stdio.uris();
    let missing = rig.create_with("c", &["exit", "0"], ["stream://4000000000", &out, &err]).await;
    assert_eq!(missing, Err(Code::NOT_FOUND));
    // The request has failed, so its streams are gone with it.
    for socket in [stdio.stdout, stdio.stderr].into_iter().flatten() {
        assert_closed(socket.socket).await;
    }
    let taken = rig.guest.stdio(false).await.expect("streams");
    rig.create("owner", &["forever"], &taken).await;
    let uri = taken.uris()[1].clone();
    assert_eq!(rig.create_with("thief", &["exit", "0"], ["", &uri, ""]).await, Err(Code::NOT_FOUND));
    rig.daemon.stop().await;
}

// ---- by name

async fn say(socket: &mut UnixStream, name: &[u8]) {
    socket.write_u32(name.len() as u32).await.expect("write");
    socket.write_all(name).await.expect("write");
}

async fn hear(socket: &mut UnixStream) -> String {
    let len = socket.read_u32().await.expect("a length");
    let mut text = vec![0; len as usize];
    socket.read_exact(&mut text).await.expect("a text");
    String::from_utf8(text).expect("UTF-8")
}

#[tokio::test]
async fn streams_may_have_names() {
    let daemon = Daemon::with_flags(&binaries::fake_runc(), &["-stream-ids=named"]).await;
    let rig = Rig::of(daemon).await;
    let name = "c-stdout-1700000000000000000-q83vEg";
    let (mut first, mut second) = (rig.dial().await, rig.dial().await);
    say(&mut first, name.as_bytes()).await;
    assert_eq!(hear(&mut first).await, name);
    say(&mut second, name.as_bytes()).await;
    assert_eq!(hear(&mut second).await, format!("stream \"{name}\" already exists"));
    assert_closed(second).await;
    let uri = format!("stream://{name}");
    rig.create_with("c", &["write", "stdout", "x"], ["", &uri, &uri]).await.expect("create");
    rig.guest.start("c", INIT).await.expect("start");
    assert_eq!(Reader::FAST.read(first).await, Sum::of(b"x"));
    assert_eq!(rig.reap("c", INIT).await, 0);
    // A name that was claimed is free again.
    let mut third = rig.dial().await;
    say(&mut third, name.as_bytes()).await;
    assert_eq!(hear(&mut third).await, name);
    rig.daemon.stop().await;
}

#[tokio::test]
async fn a_huge_name_takes_no_memory_and_is_closed() {
    let daemon = Daemon::with_flags(&binaries::fake_runc(), &["-stream-ids=named"]).await;
    let rig = Rig::of(daemon).await;
    let level = Level::of(&rig.daemon);
    for len in [4_097, 1 << 20, u32::MAX] {
        let mut socket = rig.dial().await;
        socket.write_u32(len).await.expect("write");
        assert_closed(socket).await;
    }
    level.is_back(&rig.daemon).await;
    rig.daemon.stop().await;
}
