//! The typed client against small servers in this process: the ttrpc crate's own, and one of raw bytes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use protobuf::well_known_types::any::Any;
use protobuf::well_known_types::empty::Empty;
use protobuf::{Message, MessageField};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use ttrpc::asynchronous::{Server, ServerStreamSender, TtrpcContext};
use vminit_shim::api::containerd::events::task::TaskStart;
use vminit_shim::api::containerd::shim::event::Envelope;
use vminit_shim::api::containerd::topics;
use vminit_shim::api::system::InfoResponse;
use vminit_shim::api::system_ttrpc::{create_system, System};
use vminit_shim::api::vmevents_ttrpc::{create_events, Events};
use vminit_shim::api::NAMESPACE_METADATA;
use vminit_shim::client::{context, Client, ClientError, Endpoint, Event};

const SOON: Duration = Duration::from_secs(30);

struct Fake;

#[async_trait]
impl System for Fake {
    /// Answers with the namespace and the time limit that the request named.
    async fn info(&self, ctx: &TtrpcContext, _: Empty) -> ttrpc::Result<InfoResponse> {
        let version = ctx.metadata[NAMESPACE_METADATA].join(",");
        let kernel_version = ctx.timeout_nano.to_string();
        Ok(InfoResponse { version, kernel_version, ..Default::default() })
    }
}

#[async_trait]
impl Events for Fake {
    /// Sends a start, something unknown and something damaged; then ends the stream.
    async fn stream(
        &self,
        _: &TtrpcContext,
        _: Empty,
        to: ServerStreamSender<Envelope>,
    ) -> ttrpc::Result<()> {
        let start = TaskStart { container_id: "c".into(), pid: 7, ..Default::default() };
        let start = start.write_to_bytes().expect("a message of strings and numbers encodes");
        for (topic, value) in [
            (topics::TASK_START_EVENT_TOPIC, start),
            ("/tasks/news", Vec::new()),
            (topics::TASK_EXIT_EVENT_TOPIC, vec![0xff]),
        ] {
            let event = MessageField::some(Any { value, ..Default::default() });
            let envelope =
                Envelope { topic: topic.into(), namespace: "n".into(), event, ..Default::default() };
            to.send(&envelope).await?;
        }
        Ok(())
    }
}

async fn serve(path: &Path) -> Server {
    let mut server = Server::new()
        .bind(&format!("unix://{}", path.display()))
        .expect("a fresh path can be bound")
        .register_service(create_system(Arc::new(Fake)))
        .register_service(create_events(Arc::new(Fake)));
    server.start().await.expect("it has a listener");
    server
}

#[tokio::test]
async fn a_connection_is_usable_after_its_ping_and_requests_carry_their_context() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rpc");
    let _server = serve(&path).await;
    let client = Client::connect_until(&Endpoint::Unix(path), SOON).await.unwrap();
    let info = client.system().info(context(SOON, "k8s.io"), &Empty::new()).await.unwrap();
    assert_eq!(info.version, "k8s.io");
    assert_eq!(info.kernel_version, SOON.as_nanos().to_string());
}

#[tokio::test]
async fn events_come_decoded_until_the_stream_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rpc");
    let _server = serve(&path).await;
    let client = Client::connect(&Endpoint::Unix(path)).await.unwrap();
    let mut events = client.events().await.unwrap();
    let first = events.receive().await.unwrap().unwrap();
    assert_eq!((first.topic.as_str(), first.namespace.as_str()), ("/tasks/start", "n"));
    assert_eq!(first.event, Event::Start { container_id: "c".into(), pid: 7 });
    let second = events.next().await.unwrap();
    assert_eq!(second, Some(Event::Other { topic: "/tasks/news".into() }));
    assert!(matches!(events.next().await, Err(ClientError::Event { .. })));
    assert_eq!(events.next().await.unwrap(), None);
}

#[tokio::test]
async fn connecting_goes_on_while_the_guest_hangs_up_until_it_answers_the_ping() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rpc");
    let listener = UnixListener::bind(&path).unwrap();
    let guest = async {
        for _ in 0..3 {
            drop(listener.accept().await.unwrap());
        }
        let (mut peer, _) = listener.accept().await.unwrap();
        let mut ping = [1; 10];
        peer.read_exact(&mut ping).await.unwrap();
        peer.write_all(&[0, 0, 0, 2, 0, 0, 0, 0, 2, 0, 0x08, 0x03]).await.unwrap();
        ping
    };
    let endpoint = Endpoint::Unix(path);
    let (client, ping) = tokio::join!(Client::connect_until(&endpoint, SOON), guest);
    assert!(client.is_ok());
    assert_eq!(ping, [0; 10]);
}

#[tokio::test]
async fn connecting_ends_at_its_deadline_with_the_last_reason() {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::Unix(dir.path().join("nobody"));
    let refused = Client::connect_until(&endpoint, Duration::from_millis(50)).await.err().unwrap();
    let ClientError::Deadline { last, .. } = refused else { panic!("{refused}") };
    assert!(matches!(*last, ClientError::Connect(_)), "{last}");
}

#[tokio::test]
async fn a_refusal_carries_its_code() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rpc");
    let _server = serve(&path).await;
    let client = Client::connect(&Endpoint::Unix(path)).await.unwrap();
    let refused = client.system().prepare_shutdown(context(SOON, "n"), &Empty::new()).await;
    let error = ClientError::Rpc { call: "System.PrepareShutdown", source: refused.unwrap_err() };
    assert_eq!(error.code(), Some(ttrpc::Code::NOT_FOUND));
}
