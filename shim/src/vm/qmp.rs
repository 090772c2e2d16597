//! A small client of the QEMU Machine Protocol: commands one at a time, the events, and the reason of the machine's
//! end.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use futures_util::StreamExt;
use nix::sys::socket::{sendmsg, ControlMessage, MsgFlags, UnixAddr};
use serde_json::{json, Value};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch, Mutex};
use tokio::time::timeout;
use tokio_util::codec::{FramedRead, LinesCodec};

use super::VmError;

/// A command is answered at once unless QEMU is stuck.
const REPLY: Duration = Duration::from_secs(10);
/// Replies that nobody awaits any more; one is the rule, as commands are sent one at a time.
const REPLIES: usize = 16;

/// Events that are kept for those who ask for them later; a machine that nothing is plugged into has a handful.
const EVENTS: usize = 256;

/// What is asked here is answered in a few kilobytes; a QEMU that a guest has taken over must not fill our memory.
const LINE_MAX: usize = 256 << 10;

/// A connection to QEMU's monitor.
#[derive(Debug)]
pub(super) struct Qmp {
    commands: Mutex<Commands>,
    news: watch::Receiver<News>,
}

/// What QEMU said without being asked.
#[derive(Debug, Default)]
struct News {
    /// The reason of the first SHUTDOWN, which is the cause of any others.
    shutdown: Option<String>,
    /// The last of all events, in order.
    events: VecDeque<Value>,
}

impl News {
    fn add(&mut self, event: Value) {
        if event["event"] == "SHUTDOWN" {
            let reason = event["data"]["reason"].as_str().map(str::to_string);
            self.shutdown = self.shutdown.take().or(reason);
        }
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

#[derive(Debug)]
struct Commands {
    to: OwnedWriteHalf,
    replies: mpsc::Receiver<Value>,
    last_id: u64,
}

impl Qmp {
    /// Takes over a connection and negotiates no capabilities, after which commands are taken.
    ///
    /// # Errors
    /// `Qmp`, if QEMU does not answer.
    pub(super) async fn open(stream: UnixStream) -> Result<Qmp, VmError> {
        let (from, to) = stream.into_split();
        let (reply, replies) = mpsc::channel(REPLIES);
        let (tell, news) = watch::channel(News::default());
        tokio::spawn(read(from, reply, tell));
        let qmp = Qmp { commands: Mutex::new(Commands { to, replies, last_id: 0 }), news };
        qmp.call("qmp_capabilities", json!({})).await?;
        Ok(qmp)
    }

    /// Runs one command; gives what it returns.
    pub(super) async fn call(&self, command: &str, arguments: Value) -> Result<Value, VmError> {
        self.commands.lock().await.call(command, arguments, None).await
    }

    /// Gives QEMU a descriptor under a name, for a command that takes one.
    pub(super) async fn give_fd(&self, name: &str, fd: BorrowedFd<'_>) -> Result<(), VmError> {
        let mut commands = self.commands.lock().await;
        commands.call("getfd", json!({ "fdname": name }), Some(fd)).await.map(drop)
    }

    /// Waits until the connection has ended; gives the reason of the machine's shutdown if QEMU told one.
    pub(super) fn ended(&self) -> impl Future<Output = Option<String>> + Send + 'static {
        let mut news = self.news.clone();
        async move {
            // An error means that the reader has ended, and with it QEMU.
            while news.changed().await.is_ok() {}
            let reason = news.borrow().shutdown.clone();
            reason
        }
    }

    /// Waits for an event like `wanted`; one that has come already will do, if it is not long ago. `None` if the
    /// connection ends before.
    pub(super) async fn event(&self, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        let mut news = self.news.clone();
        let came = news.wait_for(|news| news.events.iter().any(&wanted)).await.ok()?;
        let event = came.events.iter().rev().find(|event| wanted(event));
        event.cloned()
    }
}

impl Commands {
    async fn call(
        &mut self,
        command: &str,
        arguments: Value,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<Value, VmError> {
        self.last_id += 1;
        let id = self.last_id;
        let line = json!({ "execute": command, "arguments": arguments, "id": id }).to_string() + "\n";
        self.send(line.as_bytes(), fd).await.map_err(|e| refused(command, e))?;
        let reply = timeout(REPLY, self.reply(id)).await.map_err(|e| refused(command, e))?;
        let reply = reply.ok_or_else(|| refused(command, "the connection is closed"))?;
        match reply.get("error") {
            Some(error) => Err(refused(command, error["desc"].as_str().unwrap_or("it does not say why"))),
            None => Ok(reply["return"].clone()),
        }
    }

    /// A descriptor goes with the first of the bytes (unix(7), SCM_RIGHTS).
    async fn send(&mut self, mut line: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        if let Some(fd) = fd {
            let (stream, fds) = (self.to.as_ref(), [fd.as_raw_fd()]);
            let send = || {
                let (bytes, rights) = ([IoSlice::new(line)], [ControlMessage::ScmRights(&fds)]);
                let flags = MsgFlags::MSG_NOSIGNAL;
                Ok(sendmsg::<UnixAddr>(stream.as_raw_fd(), &bytes, &rights, flags, None)?)
            };
            let sent = stream.async_io(Interest::WRITABLE, send).await?;
            line = &line[sent..];
        }
        self.to.write_all(line).await
    }

    /// The reply to `id`; earlier ones belong to calls that were given up.
    async fn reply(&mut self, id: u64) -> Option<Value> {
        loop {
            let reply = self.replies.recv().await?;
            if reply["id"] == id {
                return Some(reply);
            }
        }
    }
}

fn refused(command: &str, reason: impl ToString) -> VmError {
    VmError::Qmp { command: command.to_string(), reason: reason.to_string() }
}

async fn read(from: OwnedReadHalf, reply: mpsc::Sender<Value>, tell: watch::Sender<News>) {
    let mut lines = FramedRead::new(from, LinesCodec::new_with_max_length(LINE_MAX));
    while let Some(message) = next(&mut lines).await {
        if message.get("event").is_some() {
            tell.send_modify(|news| news.add(message));
        } else if message.get("id").is_some() && reply.try_send(message).is_err() {
            tracing::debug!("a reply of QEMU was dropped: nobody awaits it");
        }
    }
}

async fn next(lines: &mut FramedRead<OwnedReadHalf, LinesCodec>) -> Option<Value> {
    serde_json::from_str(&lines.next().await?.ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncBufReadExt, BufReader};

    /// Answers each command in turn with the given lines, then hangs up.
    async fn monitor(peer: UnixStream, answers: Vec<&'static str>) {
        let (from, mut to) = peer.into_split();
        let mut lines = BufReader::new(from).lines();
        to.write_all(b"{\"QMP\": {}}\n").await.unwrap();
        for answer in answers {
            lines.next_line().await.unwrap();
            to.write_all(answer.as_bytes()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn commands_are_answered_and_the_first_shutdown_reason_is_kept() {
        let (ours, qemus) = UnixStream::pair().unwrap();
        let answers = vec![
            "{\"return\": {}, \"id\": 1}\n",
            "{\"event\": \"STOP\"}\n{\"return\": {\"status\": \"running\"}, \"id\": 2}\n",
            "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such thing\"}, \"id\": 3}\n\
             {\"event\": \"SHUTDOWN\", \"data\": {\"reason\": \"guest-shutdown\"}}\n\
             {\"event\": \"SHUTDOWN\", \"data\": {\"reason\": \"host-signal\"}}\n",
        ];
        let monitor = tokio::spawn(monitor(qemus, answers));
        let qmp = Qmp::open(ours).await.unwrap();
        assert_eq!(qmp.call("query-status", json!({})).await.unwrap()["status"], "running");
        let refused = qmp.call("nonsense", json!({})).await.unwrap_err();
        assert_eq!(refused.to_string(), "ask QEMU to nonsense: no such thing");
        let stopped = qmp.event(|event| event["event"] == "STOP").await;
        assert!(stopped.is_some());
        assert_eq!(qmp.ended().await.as_deref(), Some("guest-shutdown"));
        assert_eq!(qmp.event(|event| event["event"] == "RESET").await, None);
        monitor.await.unwrap();
    }
}
