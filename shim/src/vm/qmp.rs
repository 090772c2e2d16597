//! A small client of the QEMU Machine Protocol: commands one at a time, the events, and the reason of the machine's end.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::{json, Value};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch, Mutex};
use tokio::time::timeout;

use super::VmError;

/// A command is answered at once unless QEMU is stuck.
const REPLY: Duration = Duration::from_secs(10);
/// Replies that nobody awaits any more; one is the rule, as commands are sent one at a time.
const REPLIES: usize = 16;

/// Events that are kept for those who ask for them later; a machine that nothing is plugged into has a handful.
const EVENTS: usize = 256;

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
    /// Connects and negotiates no capabilities, after which commands are taken.
    ///
    /// # Errors
    /// While QEMU has not made its socket: `Qmp`; try again.
    pub(super) async fn connect(path: &Path) -> Result<Qmp, VmError> {
        let stream = UnixStream::connect(path).await.map_err(|e| refused("listen", e))?;
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
        let mut commands = self.commands.lock().await;
        commands.last_id += 1;
        let id = commands.last_id;
        let line = json!({ "execute": command, "arguments": arguments, "id": id }).to_string() + "\n";
        commands.to.write_all(line.as_bytes()).await.map_err(|e| refused(command, e))?;
        let reply = timeout(REPLY, commands.reply(id)).await.map_err(|e| refused(command, e))?;
        let reply = reply.ok_or_else(|| refused(command, "the connection is closed"))?;
        match reply.get("error") {
            Some(error) => Err(refused(command, error)),
            None => Ok(reply["return"].clone()),
        }
    }

    /// Waits until the connection has ended; gives the reason of the machine's shutdown if QEMU told one.
    pub(super) async fn ended(&self) -> Option<String> {
        let mut news = self.news.clone();
        // An error means that the reader has ended, and with it QEMU.
        while news.changed().await.is_ok() {}
        let reason = news.borrow().shutdown.clone();
        reason
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
    let mut lines = BufReader::new(from).lines();
    while let Some(message) = next(&mut lines).await {
        if message.get("event").is_some() {
            tell.send_modify(|news| news.add(message));
        } else if message.get("id").is_some() && reply.try_send(message).is_err() {
            tracing::debug!("a reply of QEMU was dropped: nobody awaits it");
        }
    }
}

async fn next(lines: &mut tokio::io::Lines<BufReader<OwnedReadHalf>>) -> Option<Value> {
    let line: io::Result<Option<String>> = lines.next_line().await;
    serde_json::from_str(&line.ok()??).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    /// Answers each command in turn with the given lines, then hangs up.
    async fn monitor(listener: UnixListener, answers: Vec<&'static str>) {
        let (peer, _) = listener.accept().await.unwrap();
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
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("q")).unwrap();
        let answers = vec![
            "{\"return\": {}, \"id\": 1}\n",
            "{\"event\": \"STOP\"}\n{\"return\": {\"status\": \"running\"}, \"id\": 2}\n",
            "{\"error\": {\"desc\": \"no\"}, \"id\": 3}\n\
             {\"event\": \"SHUTDOWN\", \"data\": {\"reason\": \"guest-shutdown\"}}\n\
             {\"event\": \"SHUTDOWN\", \"data\": {\"reason\": \"host-signal\"}}\n",
        ];
        let monitor = tokio::spawn(monitor(listener, answers));
        let qmp = Qmp::connect(&dir.path().join("q")).await.unwrap();
        assert_eq!(qmp.call("query-status", json!({})).await.unwrap()["status"], "running");
        assert!(qmp.call("nonsense", json!({})).await.is_err());
        let stopped = qmp.event(|event| event["event"] == "STOP").await;
        assert!(stopped.is_some());
        assert_eq!(qmp.ended().await.as_deref(), Some("guest-shutdown"));
        assert_eq!(qmp.event(|event| event["event"] == "RESET").await, None);
        monitor.await.unwrap();
    }
}
