//! The server against another implementation of the protocol: the client of the ttrpc crate.

use ttrpc::r#async::transport;
use ttrpc::r#async::Client;
use vminitd_api::bundle::{CreateRequest, CreateResponse};
use vminitd_api::bundle_ttrpc::{create_bundle, Bundle, BundleClient};

use super::*;

struct Bundles;

#[async_trait]
impl Bundle for Bundles {
    async fn create(&self, _ctx: &TtrpcContext, request: CreateRequest) -> ttrpc::Result<CreateResponse> {
        if request.id.is_empty() {
            return Err(ttrpc::Error::RpcStatus(ttrpc::get_status(Code::INVALID_ARGUMENT, "no id")));
        }
        Ok(CreateResponse { bundle: format!("/run/bundles/{}", request.id), ..Default::default() })
    }
}

fn client() -> (Client, JoinHandle<()>, watch::Sender<bool>) {
    let probe = Probe::new();
    let services = create_bundle(Arc::new(Bundles)).into_iter();
    let generated = services.map(|(_, service)| service).next().expect("one service");
    let router = Router::new()
        .unary(vminitd_api::service::BUNDLE, generated, &[])
        .stream(SERVICE, "Count", Arc::new(Streaming::Count(probe)))
        .stream(SERVICE, "Mirror", Arc::new(Streaming::Mirror));
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    let (stop, stopped) = watch::channel(false);
    let served = tokio::spawn(crate::wire::serve(Socket::Unix(theirs), Arc::new(router), SETTINGS, stopped));
    (Client::new(transport::Socket::from(ours)), served, stop)
}

fn plain(method: &str, payload: &[u8]) -> Request {
    let bytes = request(SERVICE, method, payload, Duration::ZERO);
    Request::decode(&bytes).expect("what was encoded decodes")
}

#[tokio::test]
async fn generated_unary_calls_work() {
    let (client, served, _stop) = client();
    let bundles = BundleClient::new(client.clone());
    let ask = |id: &str| CreateRequest { id: id.to_owned(), ..Default::default() };
    let answer = soon(bundles.create(ttrpc::context::with_timeout(0), &ask("one"))).await.expect("an answer");
    assert_eq!(answer.bundle, "/run/bundles/one");
    let refused = soon(bundles.create(ttrpc::context::with_timeout(0), &ask(""))).await;
    let Err(ttrpc::Error::RpcStatus(status)) = refused else { panic!("not refused: {refused:?}") };
    assert_eq!((status.code(), &status.message[..]), (Code::INVALID_ARGUMENT, "no id"));
    drop((bundles, client));
    soon(served).await.expect("serving does not panic");
}

#[tokio::test]
async fn a_payload_that_does_not_decode_is_an_invalid_argument() {
    let (client, _served, _stop) = client();
    let mut bad = plain("Create", &[0xff; 3]);
    bad.service = vminitd_api::service::BUNDLE.to_owned();
    let refused = soon(client.request(bad)).await;
    let Err(ttrpc::Error::RpcStatus(status)) = refused else { panic!("not refused: {refused:?}") };
    assert_eq!(status.code(), Code::INVALID_ARGUMENT);
}

#[tokio::test]
async fn server_and_bidirectional_streams_work() {
    let (client, _served, _stop) = client();
    let mut counted = soon(client.new_stream(plain("Count", &[2]), false, true)).await.expect("a stream");
    assert_eq!(soon(counted.recv()).await, Ok(vec![0]));
    assert_eq!(soon(counted.recv()).await, Ok(vec![1]));
    assert!(soon(counted.recv()).await.is_err(), "the stream ends");
    let mut mirror = soon(client.new_stream(plain("Mirror", &[]), true, true)).await.expect("a stream");
    for message in [b"a".to_vec(), Vec::new(), vec![9; 100_000]] {
        soon(mirror.send(message.clone())).await.expect("it is sent");
        assert_eq!(soon(mirror.recv()).await, Ok(message));
    }
    soon(mirror.close_send()).await.expect("it is closed");
    assert!(soon(mirror.recv()).await.is_err(), "the stream ends");
}
