//! What keeps a guest busy while something else is timed: a container that writes to its stdout as fast as the host
//! reads. Owns the process and the thread that reads.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use vminit_shim::client::Stream;

use crate::error::BenchError;
use crate::raw::blocking;
use crate::stage::{Process, Stage};

/// What is written in all: the 64 MiB that throughput is measured with.
const BYTES: usize = 64 << 20;

/// Bytes of one read, as there.
const BLOCK_BYTES: usize = 64 * 1024;

/// A stream that is running.
pub struct Load<'a> {
    process: Process<'a>,
    reader: JoinHandle<io::Result<()>>,
}

impl Load<'_> {
    /// Starts the process and begins to read in a thread of its own.
    pub async fn begin(stage: &Stage) -> Result<Load<'_>, BenchError> {
        let mut process = stage.run_peer(&["source", &BYTES.to_string()]).await?;
        let [stdin, stdout] = [&mut process.stdio.stdin, &mut process.stdio.stdout].map(Option::as_mut);
        let stdin = stdin.map(|stream| &mut stream.socket).expect("every process has one");
        let stdout = stdout.map(|stream| &mut stream.socket).expect("every process has one");
        // It is ready, and told to begin.
        stdout.read_u8().await.map_err(BenchError::io("await the load"))?;
        stdin.write_u8(0).await.map_err(BenchError::io("begin the load"))?;
        let Some(Stream { socket, .. }) = process.stdio.stdout.take() else { unreachable!("it was there") };
        let socket = blocking(socket).map_err(BenchError::io("read the load"))?;
        Ok(Load { process, reader: thread::spawn(move || read_all(socket)) })
    }

    /// Whether everything has arrived.
    pub fn is_over(&self) -> bool {
        self.reader.is_finished()
    }

    /// Waits until everything has arrived. Blocks.
    pub async fn end(self) -> Result<(), BenchError> {
        let read = self.reader.join().expect("the thread does not panic");
        read.map_err(BenchError::io("read the load"))?;
        self.process.end().await
    }
}

fn read_all(mut socket: UnixStream) -> io::Result<()> {
    let mut block = vec![0; BLOCK_BYTES];
    let mut left = BYTES;
    while left > 0 {
        match socket.read(&mut block)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => left -= n,
        }
    }
    Ok(())
}
