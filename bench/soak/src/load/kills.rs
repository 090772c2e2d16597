//! Signals: to inits, to execs, and to all processes of a container at once.

use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use vminit_shim::client::{Stdio, INIT};
use vminitd_test_support::calls::kill_all;
use vminitd_test_support::PATIENCE;

use super::Worker;
use crate::fault::Fault;
use crate::ground::{Ground, KILL, KILLED, TERM};

/// Execs that are killed together.
const EXECS: u64 = 4;

#[derive(Debug, Clone, Copy)]
enum Victim {
    Init,
    /// An init that asks for it: without a handler SIGTERM does nothing to the first of a pid namespace
    /// (pid_namespaces(7)).
    HandlingInit,
    Execs,
    /// Every process, by the init.
    ExecsWithInit,
    /// Every process, by a kill of all.
    All,
}

const VICTIMS: [Victim; 5] =
    [Victim::Init, Victim::HandlingInit, Victim::Execs, Victim::ExecsWithInit, Victim::All];

pub async fn round(worker: &mut Worker) -> Result<(), Fault> {
    let (id, status) = (worker.next_id(), worker.status());
    let victim = worker.chance.pick(&VICTIMS);
    let signal = worker.chance.pick(&[TERM, KILL]);
    let ground = &worker.ground;
    match victim {
        Victim::Init => {
            ground.sleeper(&id).await?;
            ground.end_sleeper(&id).await?;
        }
        Victim::HandlingInit => handling_init(ground, &id, status).await?,
        Victim::Execs => {
            ground.sleeper(&id).await?;
            start_execs(ground, &id, 128 + signal).await?;
            for n in 0..EXECS {
                ground.kill(&id, &exec(n), signal).await?;
            }
            reap_execs(ground, &id, 128 + signal).await?;
            ground.end_sleeper(&id).await?;
        }
        Victim::ExecsWithInit | Victim::All => {
            ground.sleeper(&id).await?;
            start_execs(ground, &id, KILLED).await?;
            if matches!(victim, Victim::All) {
                kill_all(&ground.guest, &id, KILL).await.map_err(Fault::call(&id))?;
            } else {
                ground.kill(&id, INIT, KILL).await?;
            }
            reap_execs(ground, &id, KILLED).await?;
            ground.reap(&id, INIT, KILLED).await?;
        }
    }
    let execs = if matches!(victim, Victim::Init | Victim::HandlingInit) { 0 } else { EXECS };
    worker.totals.execs += execs;
    worker.totals.kills += 1 + execs;
    worker.totals.lives += 1;
    Ok(())
}

async fn handling_init(ground: &Ground, id: &str, status: u32) -> Result<(), Fault> {
    let mut stdio = Stdio { stderr: None, ..ground.stdio(id, false).await? };
    let script = format!("trap 'exit {status}' TERM; echo ready; while :; do sleep 0.1; done");
    ground.create(id, &["/bin/sh", "-c", &script], &stdio).await?;
    ground.start(id, INIT, status).await?;
    let mut said = [0; "ready\n".len()];
    let stdout = &mut stdio.stdout.as_mut().expect("it was asked for").socket;
    let read = timeout(PATIENCE, stdout.read_exact(&mut said)).await;
    let read = read.map_err(|_| Fault::Late { who: id.into(), what: "its handler" })?;
    read.map_err(Fault::io(id, "read stdout"))?;
    ground.kill(id, INIT, TERM).await?;
    ground.reap(id, INIT, status).await
}

fn exec(n: u64) -> String {
    format!("k{n}")
}

async fn start_execs(ground: &Ground, id: &str, status: u32) -> Result<(), Fault> {
    for n in 0..EXECS {
        ground.add(id, &exec(n), &["/bin/sleep", "100000"], &Stdio::default()).await?;
        ground.start(id, &exec(n), status).await?;
    }
    Ok(())
}

async fn reap_execs(ground: &Ground, id: &str, status: u32) -> Result<(), Fault> {
    for n in 0..EXECS {
        ground.reap(id, &exec(n), status).await?;
    }
    Ok(())
}
