//! What the tests of both services need: containers with their URIs, files to write out, and limits to waiting.

use std::path::{Path, PathBuf};

use tokio::time::timeout;
use vminit_shim::client::{ClientError, Guest, INIT};
use vminit_shim::spec;
use vminitd_test_support::calls::{brief, create_with_uris, Uris};
use vminitd_test_support::{Daemon, PATIENCE};

/// Waits for something that is to come, no longer than [`PATIENCE`].
pub async fn soon<T>(what: impl std::future::Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it comes in time")
}

/// Makes a container with these URIs.
pub async fn create(guest: &Guest, id: &str, args: &[&str], uris: Uris<'_>) -> Result<u32, ClientError> {
    create_with_uris(guest, id, &spec::container(args), uris, false).await
}

/// Makes a container with these URIs and starts it.
pub async fn running(guest: &Guest, id: &str, args: &[&str], uris: Uris<'_>) {
    create(guest, id, args, uris).await.expect("create");
    guest.start(id, INIT).await.expect("start");
}

/// A file of the daemon's folder with these bytes, for a process to write out.
pub fn file(daemon: &Daemon, bytes: &[u8]) -> PathBuf {
    let path = daemon.dir().join("noise");
    std::fs::write(&path, bytes).expect("write the noise");
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
    let info = guest.client.system().info(brief(), &Default::default()).await;
    info.expect("the daemon answers");
}
