//! One ttrpc connection to a guest: made, proved alive with the readiness ping, and handed to the generated clients.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout, Instant};
use vminitd_api::bundle_ttrpc::BundleClient;
use vminitd_api::containerd::api::Empty;
use vminitd_api::containerd::shim_async::TaskClient;
use vminitd_api::network_ttrpc::NetworkClient;
use vminitd_api::system_ttrpc::SystemClient;
use vminitd_api::ttrpc::{self, asynchronous::transport::Socket};
use vminitd_api::vmevents_ttrpc::EventsClient;
use vminitd_api::NAMESPACE_METADATA;

use super::{ClientError, Endpoint, EventStream};

/// The pause between two tries to connect doubles from the first to the second: the figures of the spinbox host.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(20));
/// One try may take so long: a guest that is emulated and has just opened its port needs some hundred milliseconds.
const TRY: Duration = Duration::from_secs(2);
/// Length of a ttrpc frame's header: length, stream id (both u32, big endian), type, flags.
const HEADER_LEN: usize = 10;
/// A ping is answered with a short status; anything longer than this is no ttrpc server.
const PING_ANSWER_MAX: u32 = 4096;

/// A connection to the RPC port of a guest. Clones share it; it is closed with the last of them.
#[derive(Clone)]
pub struct Client {
    rpc: ttrpc::asynchronous::Client,
}

impl Client {
    /// Connects once and asks nothing: for endpoints that are known to be served.
    ///
    /// # Errors
    /// `Connect`, as [`Endpoint::connect`].
    pub async fn connect(endpoint: &Endpoint) -> Result<Client, ClientError> {
        Ok(Client::over(endpoint.connect().await.map_err(ClientError::Connect)?))
    }

    /// Connects and pings, again and again, until the guest answers or `within` has passed.
    ///
    /// # Errors
    /// `Deadline`, with the error of the last try.
    pub async fn connect_until(endpoint: &Endpoint, within: Duration) -> Result<Client, ClientError> {
        let deadline = Instant::now() + within;
        let mut pause = BACKOFF.0;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let last = match Self::connect_and_ping(endpoint, left).await {
                Ok(stream) => return Ok(Client::over(stream)),
                Err(error) => error,
            };
            if Instant::now() + pause >= deadline {
                return Err(ClientError::Deadline { within, last: Box::new(last) });
            }
            sleep(pause).await;
            pause = (pause * 2).min(BACKOFF.1);
        }
    }

    /// The connection itself may take all that is `left`: vhost-device-vsock can die of, or lose the next connection
    /// to, one that is closed before it has answered. The ping may not: a guest that is up answers at once.
    async fn connect_and_ping(endpoint: &Endpoint, left: Duration) -> Result<UnixStream, ClientError> {
        let connected =
            timeout(left, endpoint.connect()).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let mut stream = connected.map_err(ClientError::Connect)?;
        let answered = timeout(TRY.min(left), ping(&mut stream)).await;
        answered.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(ClientError::Ping)?;
        Ok(stream)
    }

    /// Speaks over a connection that the caller made. It is not pinged.
    pub fn over(stream: UnixStream) -> Client {
        Client { rpc: ttrpc::asynchronous::Client::new(Socket::new(stream)) }
    }

    /// containerd's Task service, version 3.
    pub fn task(&self) -> TaskClient {
        TaskClient::new(self.rpc.clone())
    }

    /// The virtual machine itself.
    pub fn system(&self) -> SystemClient {
        SystemClient::new(self.rpc.clone())
    }

    /// The guest's network.
    pub fn network(&self) -> NetworkClient {
        NetworkClient::new(self.rpc.clone())
    }

    /// Bundle directories.
    pub fn bundle(&self) -> BundleClient {
        BundleClient::new(self.rpc.clone())
    }

    /// The connection itself, for requests that no generated client makes.
    pub fn raw(&self) -> ttrpc::asynchronous::Client {
        self.rpc.clone()
    }

    /// Subscribes to events. What the guest has not delivered to anyone comes first.
    ///
    /// # Errors
    /// `Rpc`, if the connection is gone.
    pub async fn events(&self) -> Result<EventStream, ClientError> {
        let stream = EventsClient::new(self.rpc.clone())
            .stream(ttrpc::context::with_timeout(0), &Empty::new())
            .await
            .map_err(ClientError::rpc("Events.Stream"))?;
        Ok(EventStream::new(stream))
    }
}

/// The context of a request: how long it may take (zero: no limit, on either side) and containerd's namespace.
pub fn context(timeout: Duration, namespace: &str) -> ttrpc::context::Context {
    let mut context = ttrpc::context::with_duration(timeout);
    context.set(NAMESPACE_METADATA.to_string(), vec![namespace.to_string()]);
    context
}

/// The readiness ping: a frame header of zeros, which every ttrpc server answers with an error on stream 0 because a
/// client's stream ids are odd. The connection stays usable.
async fn ping(stream: &mut UnixStream) -> io::Result<()> {
    stream.write_all(&[0; HEADER_LEN]).await?;
    let length = stream.read_u32().await?;
    let stream_id = stream.read_u32().await?;
    let _type_and_flags = stream.read_u16().await?;
    if stream_id != 0 || length == 0 || length > PING_ANSWER_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not the answer to a ping"));
    }
    let mut status = vec![0; length as usize];
    stream.read_exact(&mut status).await?;
    Ok(())
}
