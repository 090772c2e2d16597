//! The steps of a container's life beside the same commands of bare runc, in the same guest and in turns: one at a time,
//! and several at once.
//!
//! Ours lasts from the host's calls until the last answer. Bare lasts from the fork of runc until its end, as a peer
//! beside PID 1 sees it, and does what the call does besides: create mounts the root before it, delete unmounts it
//! afterwards and removes the bundle. What is left is the daemon, and the way over vsock. Bundles are made before, on both
//! sides. Each init sleeps, and so does each exec, so that nothing else runs meanwhile.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use futures_util::future::try_join_all;
use serde_json::Value;
use tokio::time::Instant;
use vminit_shim::api::containerd::api::CreateTaskRequest;
use vminit_shim::client::{context, ClientError, Exec, Guest, Stdio, INIT};
use vminit_shim::spec;

use crate::error::BenchError;
use crate::figure::{Budget, Figure, Turn, Unit};
use crate::stage::{root_disk, Stage, CONTAINER};

/// Of the design: what the daemon may add to runc.
const BUDGET: f64 = 1.10;

/// How many at once, and in how many turns; of one at a time the spread is greater.
const WIDTHS: [(usize, usize); 2] = [(1, 7), (8, 3)];

/// Each runc takes some 15 MiB, as it copies its binary into memory first.
const MEMORY_MB: u32 = 1024;

/// How long a call may take; eight runcs at once take seconds on an emulated processor.
const CALL: Duration = Duration::from_secs(120);

const SIGKILL: u32 = 9;

/// What inits and execs run.
const SLEEP: [&str; 2] = ["/bin/sleep", "100000"];

/// The one exec of a container.
const EXEC: &str = "e";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Create,
    Start,
    /// Until the process is there.
    Exec,
    /// Not measured: it makes way for the delete of what has ended.
    Kill,
    Delete,
}

const STEPS: [Step; 5] = [Step::Create, Step::Start, Step::Exec, Step::Kill, Step::Delete];

impl Step {
    fn name(self) -> &'static str {
        match self {
            Step::Create => "create",
            Step::Start => "start",
            Step::Exec => "exec",
            Step::Kill => "kill",
            Step::Delete => "delete",
        }
    }
}

/// Measures each step at each width.
pub async fn measure(build: &Path) -> Result<Vec<Figure>, BenchError> {
    let stage = Stage::vsock_with_memory(build, MEMORY_MB).await?;
    let bare = Bare::prepare(&stage).await?;
    let mut figures = Vec::new();
    for (width, turns) in WIDTHS {
        figures.extend(at_width(&bare, width, turns).await?);
    }
    Ok(figures)
}

async fn at_width(bare: &Bare<'_>, width: usize, turns: usize) -> Result<Vec<Figure>, BenchError> {
    let mut measured = STEPS.map(|step| (step, Vec::new()));
    // The first is not counted: the first of many pages are touched in it.
    for turn in 0..=turns {
        let ours = Ours::prepare(&bare.stage.guest, turn, width).await?;
        bare.make_bundles(width).await?;
        for (step, taken) in &mut measured {
            let pair = in_turn(bare, &ours, *step, turn).await?;
            if turn > 0 && *step != Step::Kill {
                taken.push(pair);
            }
        }
    }
    let at = if width == 1 { String::new() } else { format!(", {width} at a time") };
    let figure = |(step, turns): (Step, Vec<Turn>)| {
        let what = format!("{}{at}, beside bare runc", step.name());
        Figure::beside(what, Unit::Milliseconds, turns).within(Budget::AtMost(BUDGET))
    };
    Ok(measured.into_iter().filter(|(_, turns)| !turns.is_empty()).map(figure).collect())
}

/// One step on both sides. Who is first changes with each turn.
async fn in_turn(bare: &Bare<'_>, ours: &Ours<'_>, step: Step, turn: usize) -> Result<Turn, BenchError> {
    let width = ours.containers.len();
    let (floor, ours) = if turn % 2 == 0 {
        let floor = bare.step(step, width).await?;
        (floor, ours.step(step).await?)
    } else {
        let ours = ours.step(step).await?;
        (bare.step(step, width).await?, ours)
    };
    Ok(Turn { floor, ours })
}

/// Containers of the daemon, all in the same state.
struct Ours<'a> {
    guest: &'a Guest,
    containers: Vec<Prepared>,
}

struct Prepared {
    id: String,
    bundle: String,
}

impl Ours<'_> {
    async fn prepare(guest: &Guest, turn: usize, width: usize) -> Result<Ours<'_>, BenchError> {
        let config = spec::container(&SLEEP);
        let mut containers = Vec::new();
        for n in 0..width {
            let id = format!("ours-{turn}-{n}");
            let bundle = guest.bundle(&id, &config).await?;
            containers.push(Prepared { id, bundle });
        }
        Ok(Ours { guest, containers })
    }

    /// In milliseconds.
    async fn step(&self, step: Step) -> Result<f64, BenchError> {
        let guest = self.guest;
        Ok(match step {
            Step::Create => self.each(|container| create(guest, container)).await?,
            Step::Start => self.each(|Prepared { id, .. }| start(guest, id)).await?,
            Step::Exec => self.each(|Prepared { id, .. }| exec(guest, id)).await?,
            Step::Kill => self.each(|Prepared { id, .. }| kill(guest, id)).await?,
            Step::Delete => self.each(|Prepared { id, .. }| delete(guest, id)).await?,
        })
    }

    async fn each<'a, F>(&'a self, call: impl FnMut(&'a Prepared) -> F) -> Result<f64, ClientError>
    where
        F: Future<Output = Result<(), ClientError>>,
    {
        let begun = Instant::now();
        try_join_all(self.containers.iter().map(call)).await?;
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    }
}

async fn create(guest: &Guest, container: &Prepared) -> Result<(), ClientError> {
    let request = CreateTaskRequest {
        id: container.id.clone(),
        bundle: container.bundle.clone(),
        rootfs: vec![root_disk()],
        ..Default::default()
    };
    let created = guest.client.task().create(context(CALL, "default"), &request).await;
    created.map(drop).map_err(|source| ClientError::Rpc { call: "Task.Create", source })
}

async fn start(guest: &Guest, id: &str) -> Result<(), ClientError> {
    guest.start(id, INIT).await.map(drop)
}

async fn exec(guest: &Guest, id: &str) -> Result<(), ClientError> {
    let process = spec::process(&SLEEP);
    guest.exec(Exec { container_id: id, exec_id: EXEC, process: &process }, &Stdio::default()).await?;
    guest.start(id, EXEC).await.map(drop)
}

/// Kills the init, which takes the exec along.
async fn kill(guest: &Guest, id: &str) -> Result<(), ClientError> {
    guest.kill(id, INIT, SIGKILL).await?;
    guest.wait(id, EXEC).await?;
    guest.wait(id, INIT).await.map(drop)
}

async fn delete(guest: &Guest, id: &str) -> Result<(), ClientError> {
    guest.delete(id, INIT).await.map(drop)
}

/// Containers of runc alone, `bare-0` and so on.
struct Bare<'a> {
    stage: &'a Stage,
    /// The folder of the bundles.
    bundles: String,
    /// The process of an exec, as a file.
    process: String,
}

impl Bare<'_> {
    async fn prepare(stage: &Stage) -> Result<Bare<'_>, BenchError> {
        let process: Value = spec::process(&SLEEP);
        let path = stage.guest.bundle("bare-process", &process).await?;
        let bundles = path.trim_end_matches("/bare-process").to_owned();
        Ok(Bare { stage, bundles, process: format!("{path}/config.json") })
    }

    async fn make_bundles(&self, width: usize) -> Result<(), BenchError> {
        let config = spec::container(&SLEEP);
        for n in 0..width {
            self.stage.guest.bundle(&format!("bare-{n}"), &config).await?;
        }
        Ok(())
    }

    /// In milliseconds. The arguments are those that the daemon gives to runc.
    async fn step(&self, step: Step, width: usize) -> Result<f64, BenchError> {
        let bundle = format!("{}/bare-%", self.bundles);
        let (log, pid_file) = (format!("{bundle}/log.json"), format!("{bundle}/pid"));
        let count = width.to_string();
        let mounted = format!("{}/{CONTAINER}/rootfs", self.bundles);
        let runc = ["/sbin/runc", "--root", "/run/bare-runc", "--log", &log, "--log-format", "json"];
        let call: &[&str] = match step {
            Step::Create => &["create", "--bundle", &bundle, "--pid-file", &pid_file, "bare-%"],
            Step::Start => &["start", "bare-%"],
            Step::Exec => {
                &["exec", "--process", &self.process, "--detach", "--pid-file", &pid_file, "bare-%"]
            }
            Step::Kill => &["kill", "bare-%", "KILL"],
            Step::Delete => &["delete", "--force", "bare-%"],
        };
        let around: &[&str] = match step {
            Step::Create => &["bare-mounted", &count, &mounted, &bundle],
            Step::Delete => &["bare-removed", &count, &bundle],
            _ => &["bare", &count],
        };
        let words = [around, &runc[..], call].concat();
        let printed = self.stage.peer_beside_pid_1_says(&words).await?;
        let microseconds: f64 = printed.trim().parse().map_err(|_| BenchError::Said(printed))?;
        Ok(microseconds / 1e3)
    }
}
