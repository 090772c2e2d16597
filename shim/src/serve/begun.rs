//! Handlers that are finished once they are begun. The ttrpc crate drops a handler half-way when its caller goes or its
//! deadline passes, and leaves a panic unanswered; this owns the remedy, and knows of no method but Wait.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::select;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use ttrpc::asynchronous::{MethodHandler, Service, TtrpcContext};
use ttrpc::{get_status, Code, Request, Response};

use crate::caller;

/// The one method that changes nothing and may take for ever: it does not hold up the end.
const WAIT: &str = "Wait";

/// Wraps each method of `service`; each call is one of the tasks `begun`.
pub(super) fn finish(service: Service, begun: &TaskTracker, stop: &CancellationToken) -> Service {
    let methods = service.methods.into_iter().map(|(name, handler)| {
        let stop = (name == WAIT).then(|| stop.clone());
        let handler = Finished { handler: Arc::from(handler), begun: begun.clone(), stop };
        (name, Box::new(handler) as Box<dyn MethodHandler + Send + Sync>)
    });
    Service { methods: methods.collect(), streams: service.streams }
}

struct Finished {
    handler: Arc<dyn MethodHandler + Send + Sync>,
    begun: TaskTracker,
    /// What ends the call early, for a method that only waits.
    stop: Option<CancellationToken>,
}

#[async_trait]
impl MethodHandler for Finished {
    async fn handler(&self, ctx: TtrpcContext, request: Request) -> ttrpc::Result<Response> {
        let handler = self.handler.clone();
        let method = request.method.clone();
        let gone = CancellationToken::new();
        let _gone = gone.clone().drop_guard();
        let call = caller::serving(gone, async move { handler.handler(ctx, request).await });
        let Some(stop) = &self.stop else {
            return self.begun.spawn(call).await.unwrap_or_else(|_| Ok(panicked(&method)));
        };
        // This one ends with its caller.
        let call = AbortOnDropHandle::new(tokio::spawn(call));
        select! {
            answer = call => answer.unwrap_or_else(|_| Ok(panicked(&method))),
            () = stop.cancelled() => Ok(refusal(Code::UNAVAILABLE, "the shim is ending")),
        }
    }
}

fn panicked(method: &str) -> Response {
    tracing::error!(method, "a handler panicked");
    refusal(Code::INTERNAL, format!("{method} panicked"))
}

/// At this level a status is part of the response: the crate answers UNKNOWN for every error.
fn refusal(code: Code, text: impl ToString) -> Response {
    let mut response = Response::new();
    response.set_status(get_status(code, text));
    response
}
