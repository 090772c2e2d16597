//! Why a guest could not be reached or refused.

use std::io;
use std::time::Duration;

use vminitd_api::ttrpc;

/// Why a call to a guest did not do its job.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing listens at the endpoint, or not yet.
    #[error("connect to the guest: {0}")]
    Connect(#[source] io::Error),
    /// A connection was made, but the readiness ping was not answered as it should be.
    #[error("ping the guest: {0}")]
    Ping(#[source] io::Error),
    /// The last of many tries failed for `last`, and the time was up.
    #[error("reach the guest within {within:?}: {last}")]
    Deadline { within: Duration, last: Box<ClientError> },
    /// The guest answered `call` with an error, or the connection broke.
    #[error("call {call}: {source}")]
    Rpc { call: &'static str, source: ttrpc::Error },
    /// An event carried a payload that is not what its topic says.
    #[error("decode an event of topic {topic}: {source}")]
    Event { topic: String, source: protobuf::Error },
    /// The handshake of a stdio stream failed.
    #[error("open stream {id}: {source}")]
    Stream { id: u32, source: io::Error },
    /// A stream of output broke before its end.
    #[error("read output to its end: {0}")]
    Output(#[source] io::Error),
}

impl ClientError {
    /// The status code of a guest's refusal; `None` for everything that is not an answer.
    pub fn code(&self) -> Option<ttrpc::Code> {
        match self {
            ClientError::Rpc { source: ttrpc::Error::RpcStatus(status), .. } => Some(status.code()),
            _ => None,
        }
    }

    /// Names the call for which the RPC layer reported an error, for use in `map_err`.
    pub(crate) fn rpc(call: &'static str) -> impl FnOnce(ttrpc::Error) -> ClientError {
        move |source| ClientError::Rpc { call, source }
    }
}
