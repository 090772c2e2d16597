//! Moving bytes between a stream of the guest and an end of the host. One task per direction, each with one buffer: a
//! stream that stalls holds up its own process and nothing else.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::select;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::ends::Sink;
use super::fifo::FifoReader;

/// What a relay holds at most: as much as a pipe does, and what the guest sends at once.
const BLOCK_BYTES: usize = 64 * 1024;

/// Relays output until the guest ends its stream, and says so when all of it was written; then closes the sink.
///
/// A sink that fails does not end the process: the rest is read for nobody.
pub(super) async fn output(mut guest: UnixStream, mut sink: Sink, written: watch::Sender<bool>) {
    let mut block = vec![0; BLOCK_BYTES];
    while let Some(n) = read(&mut guest, &mut block).await {
        if let Err(error) = sink.write_all(&block[..n]).await {
            tracing::warn!(%error, "an output cannot be written: the rest is thrown away");
            drop(sink);
            while read(&mut guest, &mut block).await.is_some() {}
            written.send_replace(true);
            return;
        }
    }
    // The guest may wait for our close before it is done with the stream.
    drop(guest);
    written.send_replace(true);
    sink.end().await;
}

/// Reads once. `None` at the end; an error is one, because it comes when the virtual machine dies.
async fn read(guest: &mut UnixStream, block: &mut [u8]) -> Option<usize> {
    match guest.read(block).await {
        Ok(0) => None,
        Ok(n) => Some(n),
        Err(error) => {
            tracing::debug!(%error, "an output stream broke");
            None
        }
    }
}

/// What the rest of the shim says to a stdin; each once or more, in any order.
#[derive(Debug, Clone, Default)]
pub(super) struct StdinOrders {
    /// Outlive your clients.
    pub hold: CancellationToken,
    /// End with your last client.
    pub close: CancellationToken,
}

/// Relays stdin until the FIFO ends, or the guest is gone. The whole stream is closed then: the backend knows no
/// half-close, and delivers what was written before.
///
/// What a client writes later fails, as to any pipe without readers.
pub(super) async fn input(
    mut fifo: FifoReader,
    mut guest: UnixStream,
    orders: StdinOrders,
    ended: watch::Sender<bool>,
) {
    if let Err(error) = relay_input(&mut fifo, &mut guest, &orders).await {
        tracing::debug!(%error, "a stdin cannot be relayed any further");
    }
    drop(fifo);
    drop(guest);
    ended.send_replace(true);
}

async fn relay_input(fifo: &mut FifoReader, guest: &mut UnixStream, orders: &StdinOrders) -> io::Result<()> {
    let mut block = vec![0; BLOCK_BYTES];
    let (mut held, mut closed) = (false, false);
    loop {
        let n = select! {
            read = fifo.read(&mut block) => read?,
            () = orders.close.cancelled(), if !closed => {
                fifo.close()?;
                (held, closed) = (true, true);
                continue;
            }
            () = orders.hold.cancelled(), if !held => {
                fifo.hold()?;
                held = true;
                continue;
            }
        };
        match n {
            0 => return Ok(()),
            n => guest.write_all(&block[..n]).await?,
        }
    }
}
