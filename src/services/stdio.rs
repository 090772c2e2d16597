//! The StdIO service: stdin and output of processes, as calls.

use std::collections::HashMap;

use async_trait::async_trait;
use protobuf::Message;
use ttrpc::proto::{Request, Response, Status};
use ttrpc::r#async::{MethodHandler, Service, TtrpcContext};
use vminitd_api::stdio::{
    CloseStdinRequest, CloseStdinResponse, OutputChunk, ReadOutputRequest, WriteStdinRequest,
    WriteStdinResponse,
};

use super::{error, names};
use crate::io::{Outlet, Subscription};
use crate::task::Tasks;
use crate::wire::{Stream, StreamCall, StreamMethod};

/// Methods that end with their client. A write is queued before its call waits, and a queued write is done: only the
/// wait for the pipe is dropped.
pub const ABANDONABLE: [&str; 1] = ["WriteStdin"];

/// The calls with one answer, by their names. The generated constructor would make those that stream as well, and so
/// link ttrpc's own streams, in whose place the router has others.
pub fn unary(tasks: &Tasks) -> Service {
    let service = || StdioService { tasks: tasks.clone() };
    let write: Box<dyn MethodHandler + Send + Sync> = Box::new(WriteStdin { service: service() });
    let close: Box<dyn MethodHandler + Send + Sync> = Box::new(CloseStdin { service: service() });
    let methods = [("WriteStdin".to_owned(), write), ("CloseStdin".to_owned(), close)];
    Service { methods: methods.into(), streams: HashMap::new() }
}

struct WriteStdin {
    service: StdioService,
}

#[async_trait]
impl MethodHandler for WriteStdin {
    async fn handler(&self, ctx: TtrpcContext, req: Request) -> ttrpc::Result<Response> {
        ttrpc::async_request_handler!(self, ctx, req, WriteStdinRequest, write_stdin);
    }
}

struct CloseStdin {
    service: StdioService,
}

#[async_trait]
impl MethodHandler for CloseStdin {
    async fn handler(&self, ctx: TtrpcContext, req: Request) -> ttrpc::Result<Response> {
        ttrpc::async_request_handler!(self, ctx, req, CloseStdinRequest, close_stdin);
    }
}

struct StdioService {
    tasks: Tasks,
}

impl StdioService {
    async fn write_stdin(
        &self,
        _ctx: &TtrpcContext,
        req: WriteStdinRequest,
    ) -> ttrpc::Result<WriteStdinResponse> {
        let (id, who) = names(&req.container_id, &req.exec_id)?;
        let bytes_written = req.data.len() as u32;
        self.tasks.write_stdin(&id, &who, req.data).await?;
        Ok(WriteStdinResponse { bytes_written, ..Default::default() })
    }

    async fn close_stdin(
        &self,
        _ctx: &TtrpcContext,
        req: CloseStdinRequest,
    ) -> ttrpc::Result<CloseStdinResponse> {
        let (id, who) = names(&req.container_id, &req.exec_id)?;
        self.tasks.close_stdin(&id, &who)?;
        Ok(CloseStdinResponse::new())
    }
}

/// ReadStdout or ReadStderr.
pub struct OutputStream {
    tasks: Tasks,
    outlet: Outlet,
}

impl OutputStream {
    pub fn new(tasks: Tasks, outlet: Outlet) -> OutputStream {
        OutputStream { tasks, outlet }
    }

    fn subscribe(&self, request: &[u8]) -> ttrpc::Result<Subscription> {
        let req = ReadOutputRequest::parse_from_bytes(request).map_err(error::invalid)?;
        let (id, who) = names(&req.container_id, &req.exec_id)?;
        Ok(self.tasks.subscribe(&id, &who, self.outlet)?)
    }
}

impl StreamMethod for OutputStream {
    fn call(&self, _ctx: TtrpcContext, request: Vec<u8>, stream: Stream) -> StreamCall {
        let subscription = self.subscribe(&request).map_err(error::status);
        Box::pin(async move { send_all(&subscription?, &stream).await })
    }
}

/// Sends output to its end, or until the client goes. What was not written to the socket is the next subscriber's.
async fn send_all(subscription: &Subscription, stream: &Stream) -> Result<(), Status> {
    while let Some(data) = subscription.next().await.map_err(error::output_cut_off)? {
        let bytes = data.len();
        if stream.send(encode(OutputChunk { data, ..Default::default() })).await.is_err() {
            return Ok(());
        }
        subscription.sent(bytes);
    }
    // An error means that the client has gone.
    let _ = stream.send(encode(OutputChunk { eof: true, ..Default::default() })).await;
    Ok(())
}

fn encode(chunk: OutputChunk) -> Vec<u8> {
    chunk.write_to_bytes().expect("this message has no required fields")
}
