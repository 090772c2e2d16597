//! cgroup v2 of a container as files: what it used, how often the kernel's OOM killer struck, the end of all in it.
//!
//! It never makes, limits or removes a group, which is runc's, and does not know what a container is.

mod oom;
mod stats;
#[cfg(test)]
mod tests;
mod text;

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::sys::wait::Pid;

pub use oom::OomWatch;
pub use stats::{Cpu, HugeTlb, Io, IoDevice, Memory, MemoryEvents, Pids, Rdma, RdmaDevice, Stats};
pub use text::{Pressure, Psi};

/// Where the boot mounts cgroup v2, as every distribution with it does.
const ROOT: &str = "/sys/fs/cgroup";

/// The cgroup of a container. The name stays the same when the group is gone.
#[derive(Debug, Clone)]
pub struct Cgroup(Arc<Path>);

impl Cgroup {
    /// The cgroup of a process, on the unified hierarchy. `Ok(None)` on a machine with cgroup v1, legacy or hybrid.
    ///
    /// # Errors
    /// NotFound if the process has been reaped, or its group is outside of this process's cgroup namespace.
    pub fn of(pid: Pid) -> io::Result<Option<Cgroup>> {
        let root = Path::new(ROOT);
        if !is_unified(root)? {
            return Ok(None);
        }
        let text = read_of_process(pid)?;
        text::unified_path(&text).map(|path| Cgroup::beneath(root, Path::new(path))).transpose()
    }

    /// The cgroup of a process, if it is not one that this process is in too: then nobody made one for it.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub fn made_for(pid: Pid) -> io::Result<Option<Cgroup>> {
        let Some(cgroup) = Cgroup::of(pid)? else { return Ok(None) };
        let own = Pid::new(std::process::id() as i32).map_or(Ok(None), Cgroup::of)?;
        Ok(Some(cgroup).filter(|cgroup| !own.is_some_and(|own| own.is_within(cgroup))))
    }

    /// Whether this group is that one or below it.
    pub fn is_within(&self, other: &Cgroup) -> bool {
        self.0.starts_with(&other.0)
    }

    /// The group at `path`, as the kernel writes it, below the mount at `root`.
    fn beneath(root: &Path, path: &Path) -> io::Result<Cgroup> {
        let relative = path.strip_prefix("/").unwrap_or(path);
        // A group outside of the reader's cgroup namespace is written with `..` (cgroup_namespaces(7)).
        if relative.components().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(ErrorKind::NotFound.into());
        }
        Ok(Cgroup(root.join(relative).into()))
    }

    /// Kills every process in it and in the groups below it by `cgroup.kill` (Linux 5.14). Returns once all of them
    /// have the signal, not when they have ended. Blocks shortly.
    ///
    /// # Errors
    /// NotFound on an older kernel, for the root group, and once the group is gone; others as the kernel gives them.
    pub fn kill(&self) -> io::Result<()> {
        // Without O_CREAT, which std's `write` adds: the kernel would answer it with EPERM when there is no such file.
        let mut file = OpenOptions::new().write(true).open(self.file("cgroup.kill"))?;
        file.write_all(b"1")
    }

    /// How many processes the OOM killer has killed in it and below it: `oom_kill` of `memory.events`, not `oom`,
    /// which also counts failed allocations that killed nobody. `Ok(None)` if the group is gone or has no memory
    /// controller. Blocks.
    pub fn oom_kills(&self) -> io::Result<Option<u64>> {
        let events = self.read(oom::MEMORY_EVENTS)?;
        Ok(events.map(|text| text::Flat(&text).get("oom_kill")))
    }

    /// Whether a process is left in it or below it. Blocks.
    fn is_populated(&self) -> io::Result<bool> {
        let events = self.read(oom::CGROUP_EVENTS)?;
        Ok(events.is_some_and(|text| text::Flat(&text).get("populated") > 0))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The text of a file; `None` if there is none, for want of the file, of the group or of the kernel's support.
    fn read(&self, name: &str) -> io::Result<Option<String>> {
        let mut text = String::new();
        let read = File::open(self.file(name)).and_then(|mut file| file.read_to_string(&mut text));
        match read {
            Ok(_) => Ok(Some(text)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// ENODEV: the group went away between open and read. EOPNOTSUPP: pressure is not accounted for (`psi=0`).
fn is_missing(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound
        || matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EOPNOTSUPP))
}

fn read_of_process(pid: Pid) -> io::Result<String> {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).map_err(|error| match error.raw_os_error() {
        // It was reaped between open and read.
        Some(libc::ESRCH) => ErrorKind::NotFound.into(),
        _ => error,
    })
}

/// Whether `root` is a cgroup v2 that has the controllers. Only the root of a cgroup v2 has this file at all; in the
/// hybrid form of v1 `root` is a tmpfs, with the hierarchies as folders.
fn is_unified(root: &Path) -> io::Result<bool> {
    match fs::read_to_string(root.join("cgroup.controllers")) {
        Ok(controllers) => Ok(!controllers.trim().is_empty()),
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(error),
    }
}
