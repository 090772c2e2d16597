//! Whole lives of containers: from create to delete, with and without output, on a root of their own, never started,
//! and such that cannot be made.

use serde_json::json;
use vminit_shim::api::containerd::api::Mount;
use vminit_shim::client::{Container, Stdio, INIT};

use super::Worker;
use crate::fault::Fault;
use crate::ground::{is_payload, Ground, KILLED, NOISE_FILE};
use crate::sum;

/// Output of a life; larger payloads are those of execs.
const OUTPUT_MAX: u64 = 256 << 10;

#[derive(Debug, Clone, Copy)]
enum Life {
    Plain,
    Output,
    Mounted,
    NeverStarted,
    Impossible,
}

const WEIGHTS: [(Life, u64); 5] =
    [(Life::Plain, 4), (Life::Output, 4), (Life::Mounted, 2), (Life::NeverStarted, 1), (Life::Impossible, 1)];

pub async fn round(worker: &mut Worker) -> Result<(), Fault> {
    let (id, status) = (worker.next_id(), worker.status());
    let ground = &worker.ground;
    match worker.chance.weigh(&WEIGHTS) {
        Life::Plain => {
            let script = format!("exit {status}");
            ground.create(&id, &["/bin/sh", "-c", &script], &Stdio::default()).await?;
            live(ground, &id, status).await?;
        }
        Life::Output => {
            let bytes = worker.chance.below(OUTPUT_MAX) as usize;
            worker.totals.bytes += with_output(ground, &id, status, bytes).await?;
        }
        Life::Mounted => mounted(ground, &id, status).await?,
        Life::NeverStarted => {
            ground.create(&id, &["/bin/true"], &Stdio::default()).await?;
            ground.owe(&id, INIT, KILLED);
            ground.guest.delete(&id, INIT).await.map_err(Fault::call(&id))?;
        }
        Life::Impossible => return impossible(ground, &id).await,
    }
    worker.totals.lives += 1;
    Ok(())
}

async fn live(ground: &Ground, id: &str, status: u32) -> Result<(), Fault> {
    ground.start(id, INIT, status).await?;
    ground.reap(id, INIT, status).await
}

async fn with_output(ground: &Ground, id: &str, status: u32, bytes: usize) -> Result<u64, Fault> {
    let mut stdio = ground.stdio(id, false).await?;
    let script = format!("head -c {bytes} {NOISE_FILE}; exit {status}");
    ground.create(id, &["/bin/sh", "-c", &script], &stdio).await?;
    ground.start(id, INIT, status).await?;
    let mut stdout = stdio.stdout.take().expect("it was asked for").socket;
    let found = sum::read_all(&mut stdout).await.map_err(Fault::io(id, "read stdout"))?;
    ground.reap(id, INIT, status).await?;
    is_payload(id, "stdout", ground.noise_sum(bytes), found)
}

/// On a root that the daemon mounts.
async fn mounted(ground: &Ground, id: &str, status: u32) -> Result<(), Fault> {
    let script = format!("exit {status}");
    let mut config = ground.config(id, &["/bin/sh", "-c", &script]);
    config["root"] = json!({"path": "rootfs"});
    let source = ground.root.display().to_string();
    let root = Mount { type_: "bind".into(), source, options: vec!["bind".into()], ..Default::default() };
    let container = Container { id, config: &config, rootfs: &[root] };
    ground.guest.create(container, &Stdio::default()).await.map_err(Fault::call(id))?;
    live(ground, id, status).await
}

/// There is no such program, so nothing ever runs, and the bundle is the host's to remove.
async fn impossible(ground: &Ground, id: &str) -> Result<(), Fault> {
    let config = ground.config(id, &["/no/such/program"]);
    let container = Container { id, config: &config, rootfs: &[] };
    match ground.guest.create(container, &Stdio::default()).await {
        Ok(_) => Err(Fault::Answer { who: id.into(), call: "Create", found: "a success".into() }),
        Err(error) if error.to_string().contains("/no/such/program") => {
            ground.daemon.remove_bundle(id);
            Ok(())
        }
        Err(source) => Err(Fault::Call { who: id.into(), source }),
    }
}
