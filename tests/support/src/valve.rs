//! A host that stops reading: a relay between a client and the daemon that can be shut. Never looks at the bytes.

use tempfile::TempDir;
use tokio::io::{copy, AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use vminit_shim::client::{Endpoint, Guest};

use crate::{Daemon, LIMIT};

/// Bytes relayed at a time: few, so that a valve that is shut has next to nothing in it.
const BLOCK_BYTES: usize = 512;

/// A way to the daemon's RPC port on which answers can be held back. What it holds back stays in the daemon's socket
/// until that is full, and then in the daemon. Dropping it closes its connections.
pub struct Valve {
    dir: TempDir,
    open: watch::Sender<bool>,
    relay: JoinHandle<()>,
}

impl Valve {
    /// An open one.
    pub fn before(daemon: &Daemon) -> Self {
        // Socket paths have room for 107 bytes (unix(7)), so the folder's name is short.
        let dir = tempfile::Builder::new().prefix("vlv").tempdir().expect("make a folder");
        let listener = UnixListener::bind(dir.path().join("rpc.sock")).expect("listen");
        let open = watch::Sender::new(true);
        let relay = tokio::spawn(relay(listener, daemon.rpc(), open.subscribe()));
        Self { dir, open, relay }
    }

    /// A host that talks to the daemon through it. Without streams.
    pub async fn guest(&self) -> Guest {
        let rpc = Endpoint::Unix(self.dir.path().join("rpc.sock"));
        let stream = Endpoint::Unix(self.dir.path().join("none"));
        Guest::connect(rpc, stream, LIMIT).await.expect("the daemon answers")
    }

    /// From now on nothing is read from the daemon.
    pub fn shut(&self) {
        self.open.send_replace(false);
    }

    /// Reads on.
    pub fn open(&self) {
        self.open.send_replace(true);
    }
}

impl Drop for Valve {
    fn drop(&mut self) {
        self.relay.abort();
    }
}

/// Serves every connection, until it is aborted; they end with it.
async fn relay(listener: UnixListener, daemon: Endpoint, open: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        // A daemon that is gone shows itself to the client as a connection that is closed.
        let Ok(server) = daemon.connect().await else { continue };
        connections.spawn(serve(client, server, open.clone()));
    }
}

async fn serve(client: UnixStream, server: UnixStream, open: watch::Receiver<bool>) {
    let (mut requests, to_client) = client.into_split();
    let (answers, mut to_server) = server.into_split();
    // Whoever ends first ends the connection; what went wrong shows at the client.
    tokio::select! {
        _ = copy(&mut requests, &mut to_server) => {}
        _ = answer(answers, to_client, open) => {}
    }
}

async fn answer(
    mut answers: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    mut open: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut block = [0; BLOCK_BYTES];
    while open.wait_for(|open| *open).await.is_ok() {
        tokio::select! {
            read = answers.read(&mut block) => match read? {
                0 => break,
                n => client.write_all(&block[..n]).await?,
            },
            _ = open.changed() => {}
        }
    }
    Ok(())
}
