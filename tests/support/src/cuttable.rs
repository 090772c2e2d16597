//! A client whose connection can be ended under it, at any moment. Never looks at what goes over it.

use std::io;
use std::net::Shutdown;
use std::os::unix::net;

use tokio::net::UnixStream;
use vminit_shim::client::{Client, Endpoint};

/// A connection to the RPC port, and the means to end it while calls are under way.
pub struct Cuttable {
    pub client: Client,
    socket: net::UnixStream,
}

impl Cuttable {
    /// A new connection over a Unix socket: vhost-device-vsock would not survive what is done to it.
    ///
    /// # Errors
    /// Those of [`Endpoint::connect`].
    pub async fn connect(rpc: &Endpoint) -> io::Result<Self> {
        let Endpoint::Unix(path) = rpc else { panic!("{rpc:?} is no Unix socket") };
        let stream = UnixStream::connect(path).await?.into_std()?;
        let socket = stream.try_clone()?;
        Ok(Self { client: Client::over(UnixStream::from_std(stream)?), socket })
    }

    /// Sends nothing more, and reads on.
    pub fn half_close(&self) {
        // It fails where the daemon has closed already, which the reader sees.
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Neither sends nor reads any more.
    pub fn cut(&self) {
        // As above.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}
