//! Terminals: of inits and of execs; their sizes, what is typed and what is shown, and payloads through them once they
//! are raw.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;
use vminit_shim::api::containerd::api::ResizePtyRequest;
use vminit_shim::client::{ClientError, Stdio, INIT};
use vminitd_test_support::calls::{brief, create_with_uris, exec_with_uris};
use vminitd_test_support::PATIENCE;

use super::Worker;
use crate::fault::Fault;
use crate::ground::{is_payload, who, Ground};
use crate::sum::{self, Sum};

/// Terminals of one container, one after the other.
const EXECS: u64 = 4;

/// What goes through a terminal, whose buffers hold 4 KiB: more than shows a loss is only slow.
const BYTES_MAX: u64 = 256 << 10;

/// Columns or rows: from the least that busybox's stty takes for true on, so many.
const SIZE_MIN: u32 = 2;
const SIZES: u64 = 300;

/// A line that is to be shown comes as soon as the shell gets to it.
const SHOWN: Duration = PATIENCE;

pub async fn round(worker: &mut Worker) -> Result<(), Fault> {
    let id = worker.next_id();
    let own = worker.chance.once_in(4);
    if own {
        worker.totals.bytes += process(worker, &id, INIT).await?;
    } else {
        worker.ground.sleeper(&id).await?;
        for n in 0..EXECS {
            worker.totals.bytes += process(worker, &id, &format!("t{n}")).await?;
            worker.totals.execs += 1;
        }
        worker.ground.end_sleeper(&id).await?;
    }
    worker.totals.lives += 1;
    Ok(())
}

/// The life of a process with a terminal; gives how many bytes were compared.
async fn process(worker: &mut Worker, id: &str, exec_id: &str) -> Result<u64, Fault> {
    let (status, bytes) = (worker.status(), worker.chance.below(BYTES_MAX) as usize + 1);
    let mut noise = worker.noise();
    let mut size = || SIZE_MIN + worker.chance.below(SIZES) as u32;
    let sizes = [(size(), size()), (size(), size())];
    worker.totals.terminals += 1;
    let ground = &worker.ground;
    let mut screen = Screen::open(ground, id, exec_id).await?;
    screen.add(&script(bytes, status)).await?;
    screen.resize(sizes[0]).await?;
    ground.start(id, exec_id, status).await?;
    screen.shows(&size_line(sizes[0])).await?;
    screen.resize(sizes[1]).await?;
    screen.types("hello\n").await?;
    // What is typed is echoed, until the terminal is raw.
    screen.shows(&format!("hello\r\ngot hello\r\n{}ready\n", size_line(sizes[1]))).await?;
    let (written, read) = tokio::try_join!(
        sum::write(&mut screen.stdin, &mut noise, bytes),
        sum::read(&mut screen.stdout, bytes),
    )
    .map_err(Fault::io(&screen.who, "carry a payload"))?;
    let rest = sum::read_all(&mut screen.stdout).await.map_err(Fault::io(&screen.who, "read to the end"))?;
    is_payload(&screen.who, "what is behind the payload", Sum::of(&[]), rest)?;
    ground.reap(id, exec_id, status).await?;
    is_payload(&screen.who, "the terminal", written, read)
}

/// Shows its size, what is typed and its size again; then so many bytes come back as they went in.
fn script(bytes: usize, status: u32) -> String {
    format!(
        "busybox stty size; read x; echo got $x; busybox stty size; \
         busybox stty raw -echo; echo ready; head -c {bytes}; exit {status}"
    )
}

fn size_line((width, height): (u32, u32)) -> String {
    format!("{height} {width}\r\n")
}

/// The host's end of one terminal.
struct Screen<'a> {
    ground: &'a Ground,
    id: &'a str,
    exec_id: &'a str,
    who: String,
    uris: [String; 3],
    stdin: UnixStream,
    stdout: UnixStream,
}

impl<'a> Screen<'a> {
    async fn open(ground: &'a Ground, id: &'a str, exec_id: &'a str) -> Result<Self, Fault> {
        let who = who(id, exec_id);
        // A terminal has one output.
        let stdio = Stdio { stderr: None, ..ground.stdio(&who, true).await? };
        let uris = stdio.uris();
        let (Some(stdin), Some(stdout)) = (stdio.stdin, stdio.stdout) else {
            unreachable!("both were asked for")
        };
        Ok(Self { ground, id, exec_id, who, uris, stdin: stdin.socket, stdout: stdout.socket })
    }

    /// Adds the process, or makes the container.
    async fn add(&self, script: &str) -> Result<(), Fault> {
        let (guest, args) = (&self.ground.guest, ["/bin/sh", "-c", script]);
        let uris = self.uris.each_ref().map(String::as_str);
        let added = if self.exec_id == INIT {
            let config = self.ground.config(self.id, &args);
            create_with_uris(guest, self.id, &config, uris, true).await.map(drop)
        } else {
            exec_with_uris(guest, self.id, self.exec_id, &args, uris, true).await
        };
        added.map_err(Fault::call(&self.who))
    }

    async fn resize(&self, (width, height): (u32, u32)) -> Result<(), Fault> {
        let (id, exec_id) = (self.id.into(), self.exec_id.into());
        let request = ResizePtyRequest { id, exec_id, width, height, ..Default::default() };
        let resized = self.ground.guest.client.task().resize_pty(brief(), &request).await;
        let named = |source| ClientError::Rpc { call: "Task.ResizePty", source };
        resized.map(drop).map_err(named).map_err(Fault::call(&self.who))
    }

    async fn types(&mut self, text: &str) -> Result<(), Fault> {
        self.stdin.write_all(text.as_bytes()).await.map_err(Fault::io(&self.who, "type"))
    }

    /// Reads what must come next.
    async fn shows(&mut self, text: &str) -> Result<(), Fault> {
        let mut shown = vec![0; text.len()];
        let read = timeout(SHOWN, self.stdout.read_exact(&mut shown)).await;
        let read = read.map_err(|_| Fault::Late { who: self.who.clone(), what: "what it is to show" })?;
        read.map_err(Fault::io(&self.who, "read the terminal"))?;
        if shown == text.as_bytes() {
            return Ok(());
        }
        let found = String::from_utf8_lossy(&shown).into_owned();
        Err(Fault::Said { who: self.who.clone(), expected: text.into(), found })
    }
}
