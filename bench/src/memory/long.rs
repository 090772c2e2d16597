//! Memory and descriptors after a thousand lives of containers and ten thousand execs: the daemon as an ordinary process
//! on the machine's runc, as root. Minutes; tells on stderr how far it is.

use std::path::Path;
use std::time::Duration;

use futures_util::future::try_join_all;
use serde_json::Value;
use vminit_shim::client::{ClientError, Container, Exec, Guest, Stdio, INIT};
use vminit_shim::spec;
use vminitd_test_support::{binaries, rootfs, Daemon, Level};

use crate::error::BenchError;
use crate::figure::{Budget, Figure, Turn, Unit};

use super::GROWTH;

/// The second is compared with the first.
const LIVES: [usize; 2] = [50, 1_000];
const EXECS: [usize; 2] = [500, 10_000];

/// How many of them at once.
const AT_ONCE: usize = 4;

/// How often is told how far it is: after so many.
const TOLD: usize = 250;

/// Threads without work are given up after 2 s (`src/main.rs`).
const SETTLED: Duration = Duration::from_secs(3);

const SIGKILL: u32 = 9;

/// The container of the execs.
const EXECED: &str = "execs";

/// Measures a fresh daemon after both.
pub async fn measure() -> Result<Vec<Figure>, BenchError> {
    let runc = binaries::real_runc().ok_or(BenchError::NoRunc)?;
    let daemon = Daemon::with_runtime(&runc).await;
    let root = rootfs::busybox(daemon.dir());
    let guest = daemon.guest().await;
    super::take_events(&guest).await?;
    let mut figures = Vec::new();

    let life = |n| life(&guest, &root, n);
    let levels = levels(&daemon, "lives", LIVES, life).await?;
    figures.extend(beside("lives", LIVES, &levels));

    let config = rootfs::config(&root, EXECED, &["/bin/sleep", "100000"]);
    guest.create(Container { id: EXECED, config: &config, rootfs: &[] }, &Stdio::default()).await?;
    guest.start(EXECED, INIT).await?;
    let process = spec::process(&["/bin/true"]);
    let levels = self::levels(&daemon, "execs", EXECS, |n| exec(&guest, &process, n)).await?;
    figures.extend(beside("execs", EXECS, &levels));

    guest.kill(EXECED, INIT, SIGKILL).await?;
    guest.wait(EXECED, INIT).await?;
    guest.delete(EXECED, INIT).await?;
    daemon.stop().await;
    Ok(figures)
}

/// What the daemon holds after each of these many.
async fn levels<F>(
    daemon: &Daemon,
    what: &str,
    counts: [usize; 2],
    one: impl Fn(usize) -> F,
) -> Result<Vec<Level>, BenchError>
where
    F: std::future::Future<Output = Result<(), ClientError>>,
{
    let mut levels = Vec::new();
    let mut done = 0;
    for count in counts {
        while done < count {
            let end = (done + TOLD).min(count);
            let one = &one;
            let worker = |worker| async move {
                for n in (done + worker..end).step_by(AT_ONCE) {
                    one(n).await?;
                }
                Ok::<(), ClientError>(())
            };
            try_join_all((0..AT_ONCE).map(worker)).await?;
            done = end;
            eprintln!("{what}: {done} of {}", counts[1]);
        }
        tokio::time::sleep(SETTLED).await;
        levels.push(Level::of(daemon));
        eprintln!("{what}: {:?}", Level::of(daemon));
    }
    Ok(levels)
}

async fn life(guest: &Guest, root: &Path, n: usize) -> Result<(), ClientError> {
    let id = format!("life-{n}");
    let config = rootfs::config(root, &id, &["/bin/true"]);
    guest.run(Container { id: &id, config: &config, rootfs: &[] }).await.map(drop)
}

async fn exec(guest: &Guest, process: &Value, n: usize) -> Result<(), ClientError> {
    let exec = Exec { container_id: EXECED, exec_id: &format!("e{n}"), process };
    guest.run_exec(exec).await.map(drop)
}

fn beside(what: &str, counts: [usize; 2], levels: &[Level]) -> [Figure; 2] {
    let (before, after) = (levels[0], levels[1]);
    let figure = |held: &str, unit, of: fn(Level) -> usize| {
        let turn = Turn { floor: of(before) as f64, ours: of(after) as f64 };
        let what = format!("{held}, after {} {what}, beside {}", counts[1], counts[0]);
        Figure::beside(what, unit, vec![turn]).within(Budget::AtMost(GROWTH))
    };
    [
        figure(super::RESIDENT, Unit::Kibibytes, |level| level.resident_kb),
        figure(super::DESCRIPTORS, Unit::Count, |level| level.descriptors),
    ]
}
