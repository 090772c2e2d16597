//! How much a daemon holds, as the kernel counts it: to see that it does not grow. Looks only.

use std::fs;
use std::path::Path;

use crate::{leaks, poll_until, Daemon, LIMIT};

/// What threads that come and go leave in the C library: a stack and an arena each, of which there are ten at most.
const MAPS_OF_THREADS: usize = 32;

/// How much more memory still counts as none, in kB. Measured: 280 after fifty lives or three hundred, most of it the
/// same arenas.
const MEMORY_OF_THREADS_KB: usize = 512;

/// What it held at one instant.
#[derive(Debug, Clone, Copy)]
pub struct Level {
    /// Open descriptors.
    pub descriptors: usize,
    pub threads: usize,
    /// Zombies included.
    pub children: usize,
    /// Mounts below its state directory.
    pub mounts: usize,
    /// Cgroups of its containers, one in each hierarchy.
    pub cgroups: usize,
    /// Masters of terminals.
    pub terminals: usize,
    /// Files and folders in its state directory: bundles, containers, the files of invocations.
    pub files: usize,
    /// Mappings of memory.
    pub maps: usize,
    /// Resident memory, in kB.
    pub resident_kb: usize,
}

impl Level {
    /// What it holds now.
    pub fn of(daemon: &Daemon) -> Self {
        let (pid, dir) = (daemon.pid(), daemon.dir());
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("read a daemon's mappings");
        Self {
            descriptors: leaks::descriptors(pid).len(),
            threads: entries(Path::new(&format!("/proc/{pid}/task"))),
            children: leaks::children(pid).len(),
            mounts: leaks::mounts(pid, dir).len(),
            cgroups: leaks::cgroups(dir).len(),
            terminals: leaks::terminals(pid),
            files: ["bundles", "invocations"].map(|part| files_below(&dir.join(part))).iter().sum::<usize>()
                + leaks::folders(&dir.join("runc")).len(),
            maps: maps.lines().count(),
            resident_kb: resident_kb(pid),
        }
    }

    /// Waits until the daemon holds no more than this.
    pub async fn is_back(&self, daemon: &Daemon) {
        poll_until(LIMIT, "back at the level of before", || Self::of(daemon).is_within(self)).await;
    }

    /// Whether this is no more than what was held before.
    ///
    /// # Errors
    /// Both levels, in words.
    pub fn is_within(&self, before: &Self) -> Result<(), String> {
        let within = self.counts().iter().zip(before.counts()).all(|(now, before)| *now <= before)
            && self.maps <= before.maps + MAPS_OF_THREADS
            && self.resident_kb <= before.resident_kb + MEMORY_OF_THREADS_KB;
        within.then_some(()).ok_or_else(|| format!("{before:?} became {self:?}"))
    }

    /// What has to come back exactly.
    fn counts(&self) -> [usize; 7] {
        let Self { descriptors, threads, children, mounts, cgroups, terminals, files, .. } = *self;
        [descriptors, threads, children, mounts, cgroups, terminals, files]
    }
}

fn entries(dir: &Path) -> usize {
    fs::read_dir(dir).map_or(0, Iterator::count)
}

fn files_below(dir: &Path) -> usize {
    let Ok(found) = fs::read_dir(dir) else { return 0 };
    found.flatten().map(|entry| 1 + files_below(&entry.path())).sum()
}

/// VmRSS of proc(5).
fn resident_kb(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("read a daemon's status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
    line.trim_end_matches("kB").trim().parse().expect("a number of kB")
}
