//! The table of services: which handler answers which method, how its calls may end, and how many there were.
//!
//! It is built once and only read afterwards, but for the count. It never runs a handler; [`super::connection`] does.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;
use ttrpc::proto::Status;
use ttrpc::r#async::{MethodHandler, Service, TtrpcContext};

use super::stream::Stream;

/// A method with messages beyond one request and one response.
pub trait StreamMethod: Send + Sync {
    /// Serves one call. `request` is the payload of the opening frame of a server-streaming call; for a
    /// bidirectional call it is empty and every message of the client comes from [`Stream::recv`].
    ///
    /// `Ok` closes the stream, `Err` ends it with that status. The future is dropped when the client goes, when the
    /// call's deadline passes, and when the client breaks the stream's rules.
    fn call(&self, ctx: TtrpcContext, request: Vec<u8>, stream: Stream) -> StreamCall;
}

/// What [`StreamMethod::call`] gives back.
pub type StreamCall = Pin<Box<dyn Future<Output = Result<(), Status>> + Send>>;

/// All services of one port.
#[derive(Default)]
pub struct Router {
    services: BTreeMap<&'static str, BTreeMap<String, Method>>,
    begun: watch::Sender<()>,
}

/// One method of a service.
#[derive(Clone)]
pub enum Method {
    Unary(Unary),
    Stream(Arc<dyn StreamMethod>),
}

/// A method with one request and one response.
#[derive(Clone)]
pub struct Unary {
    /// The generated code that decodes, calls and encodes.
    pub handler: Arc<dyn MethodHandler + Send + Sync>,
    /// Whether a call may be dropped half-way, because what it changes is done before it waits.
    pub abandonable: bool,
}

/// Why a name leads nowhere. The texts are those of the Go implementation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    #[error("service {0}")]
    Service(String),
    #[error("method {0}")]
    Method(String),
}

impl Router {
    /// A table without services.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the unary methods of a generated service under the name `service`.
    ///
    /// What those named in `abandonable` change, if anything, is done before they wait: they are dropped when their
    /// client goes or their deadline passes.
    /// Every other call, once begun, is finished whatever happens. Streaming methods of the generated service are
    /// not taken: add them with [`Router::stream`].
    pub fn unary(mut self, service: &'static str, methods: Service, abandonable: &[&str]) -> Self {
        let entry = self.services.entry(service).or_default();
        for (name, handler) in methods.methods {
            let abandonable = abandonable.contains(&name.as_str());
            entry.insert(name, Method::Unary(Unary { handler: Arc::from(handler), abandonable }));
        }
        debug_assert!(
            abandonable.iter().all(|name| entry.contains_key(*name)),
            "no such method in {service}"
        );
        self
    }

    /// Adds all methods that `service` has by now once more, under the name `alias`.
    pub fn alias(mut self, alias: &'static str, service: &str) -> Self {
        let methods = self.services.get(service).cloned().unwrap_or_default();
        debug_assert!(!methods.is_empty(), "no such service as {service}");
        self.services.entry(alias).or_default().extend(methods);
        self
    }

    /// Adds one streaming method.
    pub fn stream(mut self, service: &'static str, method: &str, handler: Arc<dyn StreamMethod>) -> Self {
        self.services.entry(service).or_default().insert(method.to_owned(), Method::Stream(handler));
        self
    }

    /// Changes whenever a call begins, over all connections. A ping is none. To be subscribed to for as long as somebody
    /// wants to know: telling takes time from every call.
    pub fn begun(&self) -> watch::Sender<()> {
        self.begun.clone()
    }

    /// Tells that a call begins.
    pub(super) fn tell_begun(&self) {
        if self.begun.receiver_count() > 0 {
            self.begun.send_replace(());
        }
    }

    /// The method called `method` of `service`.
    pub fn find(&self, service: &str, method: &str) -> Result<&Method, Unknown> {
        let methods = self.services.get(service).ok_or_else(|| Unknown::Service(service.to_owned()))?;
        methods.get(method).ok_or_else(|| Unknown::Method(method.to_owned()))
    }
}
