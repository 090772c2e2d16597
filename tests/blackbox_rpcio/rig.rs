//! What both services' tests need: containers whose URIs are the test's choice, and bytes that are not to be mistaken.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::timeout;
use vminit_shim::api::containerd::api::{CreateTaskRequest, ExecProcessRequest, WaitRequest};
use vminit_shim::api::protobuf::well_known_types::any::Any;
use vminit_shim::api::protobuf::MessageField;
use vminit_shim::api::ttrpc;
use vminit_shim::client::{context, ClientError, Guest, INIT};
use vminit_shim::spec;
use vminitd_test_support::{Daemon, LIMIT};

/// Longer than anything here takes on a busy machine with an unoptimised daemon.
pub const LONG: Duration = Duration::from_secs(120);

pub const MIB: usize = 1 << 20;

/// stdin, stdout, stderr.
pub type Uris<'a> = [&'a str; 3];

pub fn long() -> ttrpc::context::Context {
    context(LONG, "default")
}

/// Waits for something that is to come, no longer than [`LONG`].
pub async fn soon<T>(what: impl std::future::Future<Output = T>) -> T {
    timeout(LONG, what).await.expect("it comes in time")
}

/// The code of a refusal; a test fails on anything else that goes wrong.
pub fn refusal<T>(result: Result<T, ttrpc::Error>) -> ttrpc::Code {
    match result {
        Err(ttrpc::Error::RpcStatus(status)) => status.code(),
        Err(other) => panic!("not an answer of the daemon: {other}"),
        Ok(_) => panic!("the call was to be refused"),
    }
}

/// Makes a container with these URIs, through the crate's client.
pub async fn create(guest: &Guest, id: &str, args: &[&str], uris: Uris<'_>) -> Result<u32, ClientError> {
    let [stdin, stdout, stderr] = uris.map(str::to_owned);
    let bundle = guest.bundle(id, &spec::container(args)).await?;
    let request = CreateTaskRequest { id: id.into(), bundle, stdin, stdout, stderr, ..Default::default() };
    let reply = guest.client.task().create(long(), &request).await;
    reply.map(|reply| reply.pid).map_err(|source| ClientError::Rpc { call: "Task.Create", source })
}

/// Makes a container with these URIs and starts it.
pub async fn running(guest: &Guest, id: &str, args: &[&str], uris: Uris<'_>) {
    create(guest, id, args, uris).await.expect("create");
    guest.start(id, INIT).await.expect("start");
}

/// Adds an exec with these URIs.
pub async fn exec(guest: &Guest, id: &str, exec_id: &str, args: &[&str], uris: Uris<'_>) {
    let [stdin, stdout, stderr] = uris.map(str::to_owned);
    let value = spec::process(args).to_string().into_bytes();
    let request = ExecProcessRequest {
        id: id.into(),
        exec_id: exec_id.into(),
        spec: MessageField::some(Any { value, ..Default::default() }),
        stdin,
        stdout,
        stderr,
        ..Default::default()
    };
    guest.client.task().exec(long(), &request).await.expect("exec");
}

/// Waits for the exit and deletes the process.
pub async fn finish(guest: &Guest, id: &str, exec_id: &str) -> u32 {
    let request = WaitRequest { id: id.into(), exec_id: exec_id.into(), ..Default::default() };
    let exit = guest.client.task().wait(long(), &request).await.expect("wait");
    guest.delete(id, exec_id).await.expect("delete");
    exit.exit_status
}

/// Bytes in which one that is lost or doubled shows: each word of eight is the number of its place, well mixed.
pub fn pattern(bytes: usize) -> Vec<u8> {
    let word = |place: u64| place.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    let mut all = Vec::with_capacity(bytes + 8);
    for place in 1..=bytes.div_ceil(8) as u64 {
        all.extend_from_slice(&word(place));
    }
    all.truncate(bytes);
    all
}

/// A file of the daemon's folder with these bytes, for a process to write out.
pub fn file(daemon: &Daemon, bytes: &[u8]) -> PathBuf {
    let path = daemon.dir().join("pattern");
    std::fs::write(&path, bytes).expect("write the pattern");
    path
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("the folder's name is text")
}

/// Fails without showing sixteen million bytes.
pub fn assert_same(got: &[u8], expected: &[u8]) {
    assert_eq!(got.len(), expected.len(), "length");
    if got != expected {
        let first = got.iter().zip(expected).position(|(a, b)| a != b);
        panic!("byte {first:?} differs");
    }
}

/// That the daemon answers others while something hangs.
pub async fn answers(guest: &Guest) {
    let info = guest.client.system().info(context(LIMIT, "default"), &Default::default()).await;
    info.expect("the daemon answers");
}
