//! The publisher against an events server that comes, goes and refuses.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use ttrpc::asynchronous::{Server, TtrpcContext};
use ttrpc::{get_status, Code};
use vminitd_api::containerd::api::{Empty, ForwardRequest};
use vminitd_api::containerd::shim_async::{create_events, Events};

use super::*;

const SOON: Duration = Duration::from_secs(20);

/// Passes on what it is sent, after it has answered the errors that are left.
struct Fake {
    errors: Mutex<Vec<Code>>,
    seen: mpsc::UnboundedSender<(String, String)>,
}

#[async_trait]
impl Events for Fake {
    async fn forward(&self, _: &TtrpcContext, req: ForwardRequest) -> ttrpc::Result<Empty> {
        if let Some(code) = self.errors.lock().unwrap().pop() {
            return Err(ttrpc::Error::RpcStatus(get_status(code, "as asked")));
        }
        let (namespace, topic) = (req.envelope.namespace.clone(), req.envelope.topic.clone());
        self.seen.send((namespace, topic)).unwrap();
        Ok(Empty::new())
    }
}

struct Containerd {
    dir: TempDir,
    seen: mpsc::UnboundedReceiver<(String, String)>,
    sender: mpsc::UnboundedSender<(String, String)>,
}

impl Containerd {
    fn new() -> Containerd {
        let (sender, seen) = mpsc::unbounded_channel();
        Containerd { dir: tempfile::tempdir().unwrap(), seen, sender }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("c.sock.ttrpc")
    }

    /// Serves until what is returned is shut down. As containerd does, it removes what an earlier one has left.
    async fn serve(&self, errors: &[Code]) -> Server {
        let _ = std::fs::remove_file(self.socket());
        let fake = Fake { errors: Mutex::new(errors.to_vec()), seen: self.sender.clone() };
        let mut server = Server::new()
            .bind(&format!("unix://{}", self.socket().display()))
            .unwrap()
            .register_service(create_events(Arc::new(fake)));
        server.start().await.unwrap();
        server
    }

    fn publisher(&self) -> Publisher {
        Publisher::start(&self.socket().display().to_string(), "ns")
    }

    async fn expect(&mut self, topic: &str) {
        let seen = timeout(SOON, self.seen.recv()).await.unwrap().unwrap();
        assert_eq!(seen, ("ns".to_string(), topic.to_string()));
    }
}

#[tokio::test]
async fn events_keep_their_order_while_containerd_is_away() {
    let mut containerd = Containerd::new();
    let publisher = containerd.publisher();
    publisher.publish(Event::start("c", 1));
    publisher.publish(Event::oom("c"));
    let mut first = containerd.serve(&[]).await;
    containerd.expect("/tasks/start").await;
    containerd.expect("/tasks/oom").await;
    publisher.flush(SOON).await.unwrap();

    first.shutdown().await.unwrap();
    drop(first);
    publisher.publish(Event::paused("c"));
    publisher.publish(Event::resumed("c"));
    let mut second = containerd.serve(&[]).await;
    containerd.expect("/tasks/paused").await;
    containerd.expect("/tasks/resumed").await;
    publisher.flush(SOON).await.unwrap();
    second.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_event_that_containerd_refuses_for_good_does_not_hold_up_the_next() {
    let mut containerd = Containerd::new();
    let mut server = containerd.serve(&[Code::INVALID_ARGUMENT]).await;
    let publisher = containerd.publisher();
    publisher.publish(Event::paused("c"));
    publisher.publish(Event::resumed("c"));
    containerd.expect("/tasks/resumed").await;
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_error_that_may_pass_is_tried_again_some_times() {
    let mut containerd = Containerd::new();
    let mut server = containerd.serve(&[Code::UNAVAILABLE; 4]).await;
    let publisher = containerd.publisher();
    publisher.publish(Event::paused("c"));
    containerd.expect("/tasks/paused").await;
    server.shutdown().await.unwrap();

    let mut server = containerd.serve(&[Code::UNAVAILABLE; 5]).await;
    publisher.publish(Event::paused("c"));
    publisher.publish(Event::resumed("c"));
    containerd.expect("/tasks/resumed").await;
    server.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_containerd_that_never_answers_is_asked_again() {
    let mut containerd = Containerd::new();
    let silent = UnixListener::bind(containerd.socket()).unwrap();
    let publisher = containerd.publisher();
    publisher.publish(Event::oom("c"));
    let (first, _) = silent.accept().await.unwrap();
    let (second, _) = silent.accept().await.unwrap();
    drop((first, second, silent));
    let mut server = containerd.serve(&[]).await;
    containerd.expect("/tasks/oom").await;
    server.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_flush_says_how_much_is_left_when_its_time_is_up() {
    let containerd = Containerd::new();
    let publisher = containerd.publisher();
    assert_eq!(publisher.flush(SOON).await, Ok(()));
    publisher.publish(Event::oom("c"));
    publisher.publish(Event::oom("c"));
    assert_eq!(publisher.flush(SOON).await, Err(Unsent(2)));
}
