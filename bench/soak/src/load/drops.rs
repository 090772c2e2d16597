//! Hosts that go away: connections cut in the middle of calls, callers that give up, streams dropped in the middle of a
//! payload. What was begun is finished all the same, nobody is blocked, and every exit is told.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use vminit_shim::api::containerd::api::{
    CreateTaskRequest, DeleteRequest, KillRequest, StartRequest, Status, WaitRequest,
};
use vminit_shim::api::containerd::shim_async::TaskClient;
use vminit_shim::api::ttrpc::context::Context;
use vminit_shim::api::ttrpc::{self, Code};
use vminit_shim::client::{ClientError, INIT};
use vminitd_test_support::calls::{create_in, patient, state};
use vminitd_test_support::chance::Chance;
use vminitd_test_support::{Cuttable, PATIENCE};

use super::Worker;
use crate::fault::Fault;
use crate::ground::{who, Ground, KILL, KILLED, NOISE_FILE};
use crate::sum;

/// Calls in which runc has a part take from 10 ms on: a caller that goes away sooner than this meets all of their parts.
const GONE_MS: u64 = 60;

/// Between two looks at what an abandoned call has come to.
const PAUSE: Duration = Duration::from_millis(5);

/// Of a payload that is dropped half-way.
const PAYLOAD: usize = 8 << 20;

/// A call that may be abandoned.
#[derive(Debug, Clone, Copy)]
enum Call {
    Create,
    Start,
    Kill,
    Wait,
    Delete,
}

pub async fn round(worker: &mut Worker) -> Result<(), Fault> {
    let id = worker.next_id();
    if worker.chance.once_in(2) {
        worker.totals.drops += abandoned_life(worker, &id).await?;
    } else {
        worker.ground.sleeper(&id).await?;
        for n in 0..4 {
            dropped_payload(worker, &id, &format!("d{n}")).await?;
            worker.totals.drops += 1;
            worker.totals.execs += 1;
        }
        worker.ground.end_sleeper(&id).await?;
    }
    worker.totals.lives += 1;
    Ok(())
}

/// A life of which every call is made by one who goes away, and then by one who stays.
async fn abandoned_life(worker: &mut Worker, id: &str) -> Result<u64, Fault> {
    let (ground, chance) = (&worker.ground, &mut worker.chance);
    let config = ground.config(id, &["/bin/sleep", "100000"]);
    let bundle = ground.guest.bundle(id, &config).await.map_err(Fault::call(id))?;
    let host = Host { ground, id, bundle };
    let calls = [Call::Create, Call::Start, Call::Wait, Call::Kill, Call::Delete];
    for call in calls {
        host.abandon(chance, call).await?;
        match call {
            Call::Create => host.created().await?,
            Call::Start => host.started().await?,
            Call::Wait => {}
            Call::Kill => host.killed().await?,
            Call::Delete => host.deleted().await?,
        }
    }
    Ok(calls.len() as u64)
}

/// One who makes calls about one container.
struct Host<'a> {
    ground: &'a Ground,
    id: &'a str,
    bundle: String,
}

impl Host<'_> {
    /// Makes the call and does not wait for its answer, or not for long.
    async fn abandon(&self, chance: &mut Chance, call: Call) -> Result<(), Fault> {
        let connected = Cuttable::connect(&self.ground.daemon.rpc()).await;
        let connection = connected.map_err(Fault::io(self.id, "connect"))?;
        let task = connection.client.task();
        let gone = Duration::from_millis(1 + chance.below(GONE_MS));
        if chance.once_in(2) {
            let hasty = vminit_shim::client::context(gone, "default");
            let answer = self.ask(&task, hasty, call).await;
            return self.is_answered_or_given_up(call, answer);
        }
        tokio::select! {
            // Whoever is answered in time has not gone.
            answer = self.ask(&task, patient(), call) => self.is_answered(call, answer),
            () = sleep(gone) => {
                connection.cut();
                Ok(())
            }
        }
    }

    async fn ask(&self, task: &TaskClient, context: Context, call: Call) -> ttrpc::Result<()> {
        let id = || self.id.to_owned();
        match call {
            Call::Create => {
                let bundle = self.bundle.clone();
                let request = CreateTaskRequest { id: id(), bundle, ..Default::default() };
                task.create(context, &request).await.map(drop)
            }
            Call::Start => {
                task.start(context, &StartRequest { id: id(), ..Default::default() }).await.map(drop)
            }
            Call::Kill => {
                let request = KillRequest { id: id(), signal: KILL, ..Default::default() };
                task.kill(context, &request).await.map(drop)
            }
            Call::Wait => task.wait(context, &WaitRequest { id: id(), ..Default::default() }).await.map(drop),
            Call::Delete => {
                task.delete(context, &DeleteRequest { id: id(), ..Default::default() }).await.map(drop)
            }
        }
    }

    fn is_answered(&self, call: Call, answer: ttrpc::Result<()>) -> Result<(), Fault> {
        answer.map_err(|error| self.wrong(call, error))
    }

    /// Either side may be the first to see that the time is up.
    fn is_answered_or_given_up(&self, call: Call, answer: ttrpc::Result<()>) -> Result<(), Fault> {
        match answer {
            Err(ttrpc::Error::RpcStatus(status)) if status.code() != Code::DEADLINE_EXCEEDED => {
                Err(self.wrong(call, ttrpc::Error::RpcStatus(status)))
            }
            _ => Ok(()),
        }
    }

    fn wrong(&self, call: Call, found: impl ToString) -> Fault {
        let call = match call {
            Call::Create => "Create",
            Call::Start => "Start",
            Call::Kill => "Kill",
            Call::Wait => "Wait",
            Call::Delete => "Delete",
        };
        Fault::Answer { who: self.id.into(), call, found: found.to_string() }
    }

    /// Creates the container, unless the call that was abandoned has, or does so still.
    async fn created(&self) -> Result<(), Fault> {
        let creating = async {
            loop {
                match create_in(&self.ground.guest, self.id, &self.bundle).await {
                    Ok(_) => return Ok(()),
                    Err(Code::ALREADY_EXISTS) => {}
                    Err(code) => return Err(self.wrong(Call::Create, format!("{code:?}"))),
                }
                if state(&self.ground.guest, self.id, INIT).await.is_ok() {
                    return Ok(());
                }
                sleep(PAUSE).await;
            }
        };
        let late = |_| Fault::Late { who: self.id.into(), what: "the end of an abandoned create" };
        timeout(PATIENCE, creating).await.map_err(late)?
    }

    async fn started(&self) -> Result<(), Fault> {
        self.ground.owe(self.id, INIT, KILLED);
        match self.ground.guest.start(self.id, INIT).await {
            Err(error) if error.code() != Some(Code::FAILED_PRECONDITION) => {
                Err(Fault::Call { who: self.id.into(), source: error })
            }
            // The one before has started it, or does so still; it is killed in either state.
            _ => self.runs().await,
        }
    }

    async fn runs(&self) -> Result<(), Fault> {
        let running = async {
            while state(&self.ground.guest, self.id, INIT)
                .await
                .map(|state| state.status.enum_value_or_default())
                != Ok(Status::RUNNING)
            {
                sleep(PAUSE).await;
            }
        };
        let late = |_| Fault::Late { who: self.id.into(), what: "the end of an abandoned start" };
        timeout(PATIENCE, running).await.map_err(late)
    }

    async fn killed(&self) -> Result<(), Fault> {
        match self.ground.guest.kill(self.id, INIT, KILL).await {
            Err(error) if error.code() != Some(Code::NOT_FOUND) => {
                Err(Fault::Call { who: self.id.into(), source: error })
            }
            _ => self.ground.wait(self.id, INIT, KILLED).await,
        }
    }

    async fn deleted(&self) -> Result<(), Fault> {
        let deleting = async {
            loop {
                match self.ground.guest.delete(self.id, INIT).await.as_ref().map_err(ClientError::code) {
                    Ok(_) | Err(Some(Code::NOT_FOUND)) => return Ok(()),
                    // The one before is at it.
                    Err(Some(Code::FAILED_PRECONDITION)) => sleep(PAUSE).await,
                    Err(code) => return Err(self.wrong(Call::Delete, format!("{code:?}"))),
                }
            }
        };
        let late = |_| Fault::Late { who: self.id.into(), what: "the end of an abandoned delete" };
        timeout(PATIENCE, deleting).await.map_err(late)?
    }
}

/// A process whose streams go away under it.
async fn dropped_payload(worker: &mut Worker, id: &str, exec_id: &str) -> Result<(), Fault> {
    let who = who(id, exec_id);
    let (status, part) = (worker.status(), worker.chance.below(PAYLOAD as u64) as usize);
    let into = worker.chance.once_in(2);
    let mut noise = worker.noise();
    let ground = &worker.ground;
    let mut stdio = ground.stdio(&who, true).await?;
    let script = match into {
        true => format!("cat >/dev/null; exit {status}"),
        false => format!("head -c {PAYLOAD} {NOISE_FILE}; head -c {PAYLOAD} {NOISE_FILE} >&2; exit {status}"),
    };
    ground.add(id, exec_id, &["/bin/sh", "-c", &script], &stdio).await?;
    ground.start(id, exec_id, status).await?;
    let ends = (&mut stdio.stdin, &mut stdio.stdout);
    let (Some(stdin), Some(stdout)) = ends else { unreachable!("all were asked for") };
    if into {
        sum::write(&mut stdin.socket, &mut noise, part).await.map_err(Fault::io(&who, "write stdin"))?;
    } else {
        sum::read(&mut stdout.socket, part).await.map_err(Fault::io(&who, "read stdout"))?;
    }
    // The end of its stdin, and of those who read its output.
    drop(stdio);
    ground.reap(id, exec_id, status).await
}
