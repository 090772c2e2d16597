//! The search for what a daemon left behind, as the kernel sees it. Looks only; the caller polls.

use std::fs;
use std::path::Path;

use crate::rootfs;

/// What the open descriptors of a process point to, by number.
pub fn descriptors(pid: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("list a daemon's descriptors");
    let mut all: Vec<String> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let target = fs::read_link(&path).ok()?;
            Some(format!("{} -> {}", path.file_name()?.to_string_lossy(), target.display()))
        })
        .collect();
    all.sort();
    all
}

/// The children of a process as `pid (name) state`, zombies included.
pub fn children(parent: u32) -> Vec<String> {
    let entries = fs::read_dir("/proc").expect("list processes");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| child_of(parent, pid)).collect()
}

/// `pid (name) state` if that process is a child of `parent` (proc(5), fields 1 to 4 of stat).
fn child_of(parent: u32, pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (name, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    (fields.next()? == parent.to_string()).then(|| format!("{name}) {state}"))
}

/// Mount points below `dir`, as the process sees them.
pub fn mounts(pid: u32, dir: &Path) -> Vec<String> {
    let table = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let prefix = format!("{}/", dir.display());
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| point.starts_with(&prefix)).map(str::to_owned).collect()
}

/// The folders in a folder, so that the scripted runc's own files do not count; nothing if there is no folder.
pub fn folders(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let folders = entries.filter_map(Result::ok).filter(|entry| entry.path().is_dir());
    folders.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// The terminals that a process holds the master of.
pub fn terminals(pid: u32) -> usize {
    descriptors(pid).iter().filter(|descriptor| descriptor.ends_with("ptmx")).count()
}

/// The cgroups of the containers of a daemon that has this folder, in whatever hierarchy there is.
pub fn cgroups(dir: &Path) -> Vec<String> {
    let prefix = rootfs::cgroup_prefix(dir);
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = folders(root).into_iter().map(|name| root.join(name));
    let all = hierarchies.chain([root.to_owned()]).flat_map(|hierarchy| folders(&hierarchy));
    all.filter(|name| name.starts_with(&prefix)).collect()
}

/// Command lines of the processes of this machine that name `path`: runcs of a daemon, and what they started.
pub fn processes_naming(path: &str) -> Vec<String> {
    let command_line = |entry: fs::DirEntry| {
        let bytes = fs::read(entry.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&bytes).replace('\0', " "))
    };
    let processes = fs::read_dir("/proc").expect("list /proc").flatten();
    processes.filter_map(command_line).filter(|line| line.contains(path)).collect()
}
