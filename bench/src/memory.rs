//! Memory and descriptors of PID 1 of a microVM, as a process that sees it reads them: idle, with containers, and after
//! many lives. `long.rs` has the lives that are too many for an emulated machine.
//!
//! The idle figures are read by the init of the first container, so that its Create and Start and its stdio are in
//! them. Each reading waits until threads that have no work were given up.

pub mod long;

use std::path::Path;

use futures_util::future::try_join_all;
use serde_json::Value;
use vminit_shim::client::{ClientError, Container, Exec, Guest, Stdio, INIT};
use vminit_shim::spec;

use crate::error::BenchError;
use crate::figure::{Budget, Figure, Turn, Unit};
use crate::stage::{boot, root_disk, MEMORY_MB};

/// Of the design: 2 MiB when idle, and 5 % more after many lives than after a few.
const IDLE_KB: f64 = 2048.0;
const GROWTH: f64 = 1.05;

/// The second is compared with the first.
const LIVES: [usize; 2] = [50, 100];

/// How many of them at once, which saves a third of the time.
const AT_ONCE: usize = 4;

/// What is read with so many.
const CONTAINERS: usize = 20;

/// The container from which PID 1 is looked at while others come and go.
const WATCH: &str = "watch";

/// Prints the numbers of [`Held`]. Threads without work are given up after 2 s (`src/main.rs`).
const READ: &str = "sleep 3; cat /proc/1/status; echo descriptors: $(ls /proc/1/fd | wc -l)";

/// What a process holds: resident memory in kB, of it what no file backs and what one does; open descriptors.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Held {
    resident: f64,
    anonymous: f64,
    file: f64,
    descriptors: f64,
}

impl Held {
    /// `None` if one of them is not there.
    fn parse(printed: &str) -> Option<Held> {
        let number = |name: &str| {
            let line = printed.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().trim_end_matches(" kB").parse::<f64>().ok()
        };
        Some(Held {
            resident: number("VmRSS")?,
            anonymous: number("RssAnon")?,
            // The root of an initramfs is a tmpfs, whose files count as shared memory.
            file: number("RssFile")? + number("RssShmem")?,
            descriptors: number("descriptors")?,
        })
    }

    fn figures(self, when: &str) -> [Figure; 4] {
        self.named().map(|(what, unit, value)| Figure::alone(format!("{what}, {when}"), unit, vec![value]))
    }

    /// Beside what was held before; memory of each kind may grow as one.
    fn beside(self, before: Held, when: &str) -> [Figure; 4] {
        let pairs = [0, 1, 2, 3].map(|n| (self.named()[n], before.named()[n].2));
        pairs.map(|((what, unit, ours), floor)| {
            let figure = Figure::beside(format!("{what}, {when}"), unit, vec![Turn { floor, ours }]);
            match what {
                RESIDENT | DESCRIPTORS => figure.within(Budget::AtMost(GROWTH)),
                _ => figure,
            }
        })
    }

    fn named(self) -> [(&'static str, Unit, f64); 4] {
        [
            (RESIDENT, Unit::Kibibytes, self.resident),
            ("anonymous", Unit::Kibibytes, self.anonymous),
            ("of files", Unit::Kibibytes, self.file),
            (DESCRIPTORS, Unit::Count, self.descriptors),
        ]
    }
}

const RESIDENT: &str = "resident";
const DESCRIPTORS: &str = "descriptors";

/// Measures PID 1 of a fresh microVM.
pub async fn measure(build: &Path) -> Result<Vec<Figure>, BenchError> {
    let booted = boot(build, MEMORY_MB).await?;
    let guest = &booted.guest;
    let mut figures = Vec::new();

    let [resident, others @ ..] = idle(guest).await?.figures("idle");
    figures.push(resident.within(Budget::AtMost(IDLE_KB)));
    figures.extend(others);

    begin(guest, WATCH, &watching(&["/bin/sleep", "100000"])).await?;
    figures.extend(held(guest, "one").await?.figures("1 container"));

    take_events(guest).await?;
    let [first, then] = LIVES;
    lives(guest, 0, first).await?;
    let before = held(guest, "before").await?;
    lives(guest, first, then).await?;
    let when = format!("after {then} lives, beside {first}");
    figures.extend(held(guest, "after").await?.beside(before, &when));

    let sleep = spec::container(&["/bin/sleep", "100000"]);
    let ids: Vec<String> = (1..CONTAINERS).map(|n| format!("c{n}")).collect();
    for ids in ids.chunks(AT_ONCE) {
        try_join_all(ids.iter().map(|id| begin(guest, id, &sleep))).await?;
    }
    figures.extend(held(guest, "many").await?.figures(&format!("{CONTAINERS} containers")));
    Ok(figures)
}

/// Takes events for as long as the connection lasts, as every host does: what nobody takes is kept, up to a bound.
async fn take_events(guest: &Guest) -> Result<(), ClientError> {
    let mut events = guest.client.events().await?;
    tokio::spawn(async move { while let Ok(Some(_)) = events.next().await {} });
    Ok(())
}

/// The configuration of a container from which PID 1 can be looked at.
fn watching(args: &[&str]) -> Value {
    let mut config = spec::container(args);
    spec::share_pids(&mut config);
    spec::grant_all_capabilities(&mut config);
    config
}

async fn idle(guest: &Guest) -> Result<Held, BenchError> {
    let config = watching(&["/bin/sh", "-c", READ]);
    read(&guest.run(Container { id: "first", config: &config, rootfs: &[root_disk()] }).await?.stdout)
}

/// What PID 1 holds now; an exec of the container [`WATCH`] of this name reads it.
async fn held(guest: &Guest, name: &str) -> Result<Held, BenchError> {
    let mut process = spec::process(&["/bin/sh", "-c", READ]);
    spec::grant_all_capabilities_to(&mut process);
    let exec = Exec { container_id: WATCH, exec_id: name, process: &process };
    read(&guest.run_exec(exec).await?.stdout)
}

fn read(printed: &[u8]) -> Result<Held, BenchError> {
    let printed = String::from_utf8_lossy(printed);
    Held::parse(&printed).ok_or_else(|| BenchError::Said(printed.into_owned()))
}

async fn begin(guest: &Guest, id: &str, config: &Value) -> Result<(), ClientError> {
    guest.create(Container { id, config, rootfs: &[root_disk()] }, &Stdio::default()).await?;
    guest.start(id, INIT).await.map(drop)
}

/// The lives with the numbers from `first` up to `end`, a few at once.
async fn lives(guest: &Guest, first: usize, end: usize) -> Result<(), BenchError> {
    let config = spec::container(&["/bin/true"]);
    let worker = |worker| {
        let config = &config;
        async move {
            for n in (first + worker..end).step_by(AT_ONCE) {
                let id = format!("life-{n}");
                guest.run(Container { id: &id, config, rootfs: &[root_disk()] }).await?;
            }
            Ok::<(), ClientError>(())
        }
    };
    try_join_all((0..AT_ONCE).map(worker)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_read_by_name() {
        let printed = "Name:\tvminitd\nVmRSS:\t    1996 kB\nRssAnon:\t     300 kB\nRssFile:\t       4 kB\n\
            RssShmem:\t    1692 kB\ndescriptors: 17\n";
        let held = Held { resident: 1996.0, anonymous: 300.0, file: 1696.0, descriptors: 17.0 };
        assert_eq!(Held::parse(printed), Some(held));
        assert_eq!(Held::parse("VmRSS:\t 1996 kB\n"), None);
    }

    #[test]
    fn growth_beyond_the_budget_is_found() {
        let before = Held { resident: 2000.0, anonymous: 300.0, file: 1700.0, descriptors: 20.0 };
        let verdicts = |after: Held| after.beside(before, "then").map(|figure| figure.is_met());
        assert_eq!(verdicts(before), [Some(true), None, None, Some(true)]);
        let after = Held { resident: 2101.0, descriptors: 22.0, ..before };
        assert_eq!(verdicts(after), [Some(false), None, None, Some(false)]);
    }
}
