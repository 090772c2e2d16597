//! The Events service: one exchange behind both of its names.

use protobuf::Message;
use ttrpc::proto::Status;
use ttrpc::r#async::TtrpcContext;

use super::error;
use crate::events::Exchange;
use crate::wire::{Stream, StreamCall, StreamMethod};

pub struct EventStream {
    exchange: Exchange,
}

impl EventStream {
    pub fn new(exchange: Exchange) -> EventStream {
        EventStream { exchange }
    }
}

impl StreamMethod for EventStream {
    fn call(&self, _ctx: TtrpcContext, _request: Vec<u8>, stream: Stream) -> StreamCall {
        let exchange = self.exchange.clone();
        Box::pin(async move { send_all(&exchange, &stream).await })
    }
}

/// Sends events until the client goes or the exchange is closed. An event counts as delivered only once it was
/// written to the socket; until then it is the next subscriber's.
async fn send_all(exchange: &Exchange, stream: &Stream) -> Result<(), Status> {
    let mut subscription = exchange.subscribe();
    loop {
        let next = tokio::select! {
            next = subscription.next() => next,
            () = stream.gone() => return Ok(()),
        };
        let delivery = match next {
            Ok(Some(delivery)) => delivery,
            Ok(None) => return Ok(()),
            Err(cut_off) => return Err(error::cut_off(cut_off)),
        };
        let bytes = delivery.envelope().write_to_bytes().expect("these messages have no required fields");
        if stream.send(bytes).await.is_err() {
            return Ok(());
        }
        subscription.written(&delivery);
    }
}
