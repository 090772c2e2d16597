//! All that could be left behind, as the kernel and containerd see it. Looks only, at everything in the test's own
//! namespaces; the caller polls.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, process};

use tokio::process::Command;

use crate::world::{Said, World, DIR, NAMESPACE};

/// One line for each thing.
pub type Traces = BTreeSet<String>;

/// What is there now.
pub async fn traces(world: &World) -> Traces {
    let mut all = processes(world);
    all.extend(mounts());
    for folder in ["/run/vminit", "/run/containerd/s", "/run/netns", &bundles()] {
        all.extend(entries(folder).map(|path| format!("file {}", path.display())));
    }
    all.extend(listed("link", Command::new("ip").args(["-o", "link"])).await);
    all.extend(listed("qdisc", Command::new("tc").args(["qdisc"])).await);
    for kind in ["snapshot", "container", "task"] {
        all.extend(listed(kind, &mut world.command(&[kind, "ls"])).await);
    }
    all
}

/// Where containerd keeps the bundles of its tasks.
pub fn bundles() -> String {
    format!("{DIR}/state/io.containerd.runtime.v2.task/{NAMESPACE}")
}

fn entries(folder: &str) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// What is in the namespace besides the test, its children and PID 1: nothing else is anybody's but containerd's.
fn processes(world: &World) -> Traces {
    let pids = entries("/proc").filter_map(|path| path.file_name()?.to_str()?.parse::<u32>().ok());
    let own = [1, process::id()];
    let others = pids.filter(|pid| !own.contains(pid) && Some(*pid) != world.containerd_pid());
    others.filter_map(describe).collect()
}

/// The name and the words of a process that is not ours to reap.
fn describe(pid: u32) -> Option<String> {
    let status = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let ours = field("PPid:")? == process::id().to_string();
    (!ours).then(|| format!("process {pid} {} {}", field("Name:").unwrap_or_default(), words(pid)))
}

/// The command line of a process.
pub fn words(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

fn mounts() -> Traces {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("read the table of mounts");
    // The fifth field is the mount point (proc_pid_mountinfo(5)).
    table.lines().filter_map(|line| line.split(' ').nth(4)).map(|point| format!("mount {point}")).collect()
}

async fn listed(kind: &str, command: &mut Command) -> Traces {
    let output = command.output().await.expect("run a program that lists");
    output.succeeds().lines().map(|line| format!("{kind} {}", line.trim())).collect()
}
