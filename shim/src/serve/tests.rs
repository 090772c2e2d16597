//! The server against a client over a socket, with a Task that misbehaves.

use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use protobuf::Message;
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use ttrpc::asynchronous::{Client, TtrpcContext};
use ttrpc::{Code, Request};
use vminitd_api::containerd::api;
use vminitd_api::containerd::shim_async::{Task, TaskClient};

use super::*;
use crate::caller;

const SOON: Duration = Duration::from_secs(10);

/// Its Kill waits for `go` and then says that it is done; Resume waits until its caller has gone, and says so; Wait
/// never answers, and says when it is dropped; Pause panics.
#[derive(Default)]
struct Odd {
    begun: Notify,
    go: Notify,
    done: Notify,
    stop: CancellationToken,
}

#[async_trait]
impl Task for Odd {
    async fn state(&self, _: &TtrpcContext, req: api::StateRequest) -> ttrpc::Result<api::StateResponse> {
        Ok(api::StateResponse { id: req.id, ..Default::default() })
    }

    async fn kill(&self, _: &TtrpcContext, _: api::KillRequest) -> ttrpc::Result<api::Empty> {
        self.begun.notify_one();
        self.go.notified().await;
        self.done.notify_one();
        Ok(api::Empty::new())
    }

    async fn wait(&self, _: &TtrpcContext, _: api::WaitRequest) -> ttrpc::Result<api::WaitResponse> {
        let _ended = OnDrop(&self.done);
        self.begun.notify_one();
        std::future::pending().await
    }

    async fn resume(&self, _: &TtrpcContext, _: api::ResumeRequest) -> ttrpc::Result<api::Empty> {
        self.begun.notify_one();
        caller::gone().cancelled().await;
        self.done.notify_one();
        Ok(api::Empty::new())
    }

    async fn pause(&self, _: &TtrpcContext, _: api::PauseRequest) -> ttrpc::Result<api::Empty> {
        panic!("as asked")
    }

    async fn shutdown(&self, _: &TtrpcContext, _: api::ShutdownRequest) -> ttrpc::Result<api::Empty> {
        self.stop.cancel();
        Ok(api::Empty::new())
    }
}

struct OnDrop<'a>(&'a Notify);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

struct Served {
    dir: TempDir,
    task: Arc<Odd>,
    ended: JoinHandle<Result<Ended, ServeError>>,
}

impl Served {
    async fn start() -> Served {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("s")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let task = Arc::new(Odd::default());
        let (socket, served) = (dir.path().join("s"), task.clone());
        let stop = task.stop.clone();
        let ended = tokio::spawn(async move { serve(listener, &socket, served, stop).await });
        Served { dir, task, ended }
    }

    async fn connect(&self) -> Client {
        Client::connect(&format!("unix://{}", self.dir.path().join("s").display())).await.unwrap()
    }

    async fn end(self) -> Ended {
        timeout(SOON, self.ended).await.unwrap().unwrap().unwrap()
    }
}

fn unlimited() -> ttrpc::context::Context {
    ttrpc::context::with_timeout(0)
}

fn code<T>(answer: ttrpc::Result<T>) -> Option<Code> {
    match answer {
        Err(ttrpc::Error::RpcStatus(status)) => Some(status.code()),
        _ => None,
    }
}

#[tokio::test]
async fn both_versions_of_the_service_are_served() {
    let served = Served::start().await;
    let client = served.connect().await;
    let payload = api::StateRequest { id: "c".into(), ..Default::default() }.write_to_bytes().unwrap();
    for service in [TASK_V2, TASK_V3] {
        let (service, method) = (service.to_string(), "State".to_string());
        let request = Request { service, method, payload: payload.clone(), ..Default::default() };
        let answer = timeout(SOON, client.request(request)).await.unwrap().unwrap();
        assert_eq!(api::StateResponse::parse_from_bytes(&answer.payload).unwrap().id, "c");
    }
}

#[tokio::test]
async fn a_handler_is_finished_though_its_caller_has_gone() {
    let served = Served::start().await;
    let client = TaskClient::new(served.connect().await);
    let call = tokio::spawn(async move { client.kill(unlimited(), &api::KillRequest::new()).await });
    served.task.begun.notified().await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    // The state of another connection shows that the server goes on, and has had time to see the end of this one.
    let other = TaskClient::new(served.connect().await);
    other.state(unlimited(), &api::StateRequest::new()).await.unwrap();
    served.task.go.notify_one();
    timeout(SOON, served.task.done.notified()).await.unwrap();
}

#[tokio::test]
async fn a_handler_can_learn_that_its_caller_has_gone() {
    let served = Served::start().await;
    let client = TaskClient::new(served.connect().await);
    let call = tokio::spawn(async move { client.resume(unlimited(), &api::ResumeRequest::new()).await });
    served.task.begun.notified().await;
    call.abort();
    timeout(SOON, served.task.done.notified()).await.unwrap();
}

#[tokio::test]
async fn a_handler_is_finished_though_its_deadline_has_passed() {
    let served = Served::start().await;
    let client = TaskClient::new(served.connect().await);
    let brief = ttrpc::context::with_timeout(1_000_000);
    assert!(client.kill(brief, &api::KillRequest::new()).await.is_err());
    served.task.begun.notified().await;
    served.task.go.notify_one();
    timeout(SOON, served.task.done.notified()).await.unwrap();
}

#[tokio::test]
async fn a_wait_ends_with_its_caller() {
    let served = Served::start().await;
    let client = TaskClient::new(served.connect().await);
    let call = tokio::spawn(async move { client.wait(unlimited(), &api::WaitRequest::new()).await });
    served.task.begun.notified().await;
    call.abort();
    timeout(SOON, served.task.done.notified()).await.unwrap();
}

#[tokio::test]
async fn a_panic_is_answered() {
    let served = Served::start().await;
    let client = TaskClient::new(served.connect().await);
    let answer = timeout(SOON, client.pause(unlimited(), &api::PauseRequest::new())).await.unwrap();
    assert_eq!(code(answer), Some(Code::INTERNAL));
}

#[tokio::test]
async fn shutdown_is_answered_before_the_end_and_waits_do_not_hold_it_up() {
    let served = Served::start().await;
    let client = TaskClient::new(served.connect().await);
    let waiter = client.clone();
    let wait = tokio::spawn(async move { waiter.wait(unlimited(), &api::WaitRequest::new()).await });
    served.task.begun.notified().await;
    client.shutdown(unlimited(), &api::ShutdownRequest::new()).await.unwrap();
    assert_eq!(timeout(DRAIN / 2, served.end()).await.unwrap(), Ended::Asked);
    assert_eq!(code(wait.await.unwrap()), Some(Code::UNAVAILABLE));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_hangs_holds_up_the_end_for_a_bounded_time_but_not_the_removal_of_the_socket() {
    let served = Served::start().await;
    let client = TaskClient::new(served.connect().await);
    let kill = tokio::spawn(async move { client.kill(unlimited(), &api::KillRequest::new()).await });
    served.task.begun.notified().await;
    served.task.stop.cancel();
    let begin = Instant::now();
    let socket = served.dir.path().join("s");
    while socket.exists() {
        tokio::task::yield_now().await;
    }
    assert!(begin.elapsed() < DRAIN);
    assert_eq!(served.end().await, Ended::Asked);
    assert!(begin.elapsed() >= DRAIN && begin.elapsed() < DRAIN * 2);
    kill.abort();
}
