//! Mounts: what the guest's kernel makes by itself, and what comes from the host.

use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value};

use super::members::{list, text, texts};
use super::{FileKind, Point, Refusal, World};

/// A file or directory of the host that the container sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    pub source: PathBuf,
    /// Where it is in the container.
    pub destination: String,
    pub directory: bool,
    pub read_only: ReadOnly,
}

/// What of a volume cannot be written to, by anybody in the VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOnly {
    No,
    /// The volume, but not what is mounted beneath it on the host.
    Yes,
    /// All of it.
    Recursive,
}

/// File systems that need nothing of the host.
const FILE_SYSTEMS_OF_THE_GUEST: [&str; 8] =
    ["proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2", "ramfs"];

/// Folders in the host's root that are views of its kernel: bound from a microVM they would be of another machine.
const FOLDERS_OF_THE_KERNEL: [&str; 3] = ["proc", "sys", "dev"];

/// As runc makes what it mounts on, files too.
const POINT_MODE: u32 = 0o755;
/// That of a tmpfs without one of its own (tmpfs(5)).
const TMPFS_MODE: u32 = 0o1777;

/// Takes the binds out as volumes, and points them at where the guest finds these.
pub(super) fn divide(spec: &mut Map<String, Value>, world: &World<'_>) -> Result<Vec<Volume>, Refusal> {
    // What is mounted later on the host is seen in the guest, whatever this says; what is mounted in the guest stays
    // there.
    super::members::object(spec, "linux")?.remove("rootfsPropagation");
    let mut volumes = Vec::new();
    for mount in list(spec, "mounts")? {
        let destination = text(mount, "destination").ok_or(Refusal::Malformed("mounts"))?.to_owned();
        let options = texts(&mount["options"], "mounts")?;
        refuse_id_mapped(mount, &options, &destination)?;
        if is_bind(mount, &options) {
            let volume = volume(mount, &options, destination, world)?;
            rewrite(mount, &options, (world.volume_in_guest)(volumes.len()));
            volumes.push(volume);
        } else {
            refuse_foreign(mount, destination)?;
        }
    }
    Ok(volumes)
}

/// Where the guest's runtime mounts, and where it starts the container, as far as that is in the root itself and not in
/// what is mounted there earlier.
pub(super) fn points(spec: &Map<String, Value>, volumes: &[Volume]) -> Vec<Point> {
    let mounts = spec.get("mounts").and_then(Value::as_array).into_iter().flatten();
    let mounted = mounts.filter_map(|mount| Some((mount["destination"].as_str()?, mode_of_point(mount))));
    let working = spec.get("process").and_then(|process| process["cwd"].as_str());
    let mut points: Vec<Point> = Vec::new();
    for (path, mode) in mounted.chain(working.map(|path| (path, POINT_MODE))) {
        let is_file = |volume: &Volume| volume.destination == path && !volume.directory;
        if !points.iter().any(|earlier| Path::new(path).starts_with(&earlier.path)) {
            points.push(Point { path: path.into(), directory: !volumes.iter().any(is_file), mode });
        }
    }
    points
}

/// runc before 1.2 gives a tmpfs the mode of the folder that it finds, whatever the options say; had it made the folder
/// itself, the options would hold.
fn mode_of_point(mount: &Value) -> u32 {
    if mount["type"] != "tmpfs" {
        return POINT_MODE;
    }
    let options = mount["options"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mode = |option: &str| u32::from_str_radix(option.strip_prefix("mode=")?, 8).ok();
    options.rev().find_map(mode).unwrap_or(TMPFS_MODE)
}

fn is_bind(mount: &Value, options: &[String]) -> bool {
    mount["type"] == "bind" || options.iter().any(|option| option == "bind" || option == "rbind")
}

fn refuse_id_mapped(mount: &Value, options: &[String], destination: &str) -> Result<(), Refusal> {
    let mapped = |name: &str| mount[name].as_array().is_some_and(|all| !all.is_empty());
    let asked = options.iter().any(|option| option == "idmap" || option == "ridmap");
    match asked || mapped("uidMappings") || mapped("gidMappings") {
        true => Err(Refusal::IdMapped(destination.to_owned())),
        false => Ok(()),
    }
}

fn refuse_foreign(mount: &Value, destination: String) -> Result<(), Refusal> {
    let kind = mount["type"].as_str().unwrap_or_default();
    match FILE_SYSTEMS_OF_THE_GUEST.contains(&kind) {
        true => Ok(()),
        false => Err(Refusal::MountType { kind: kind.to_owned(), destination }),
    }
}

fn volume(
    mount: &Value,
    options: &[String],
    destination: String,
    world: &World<'_>,
) -> Result<Volume, Refusal> {
    let source = world.bundle.join(text(mount, "source").ok_or(Refusal::Malformed("mounts"))?);
    let directory = check_bind(&source, &destination, is_of_the_kernel(&source), (world.kind_of)(&source))?;
    Ok(Volume { directory, read_only: read_only(options), source, destination })
}

/// Whether what is bound from `source` is a directory. It may be that or a file, and not what the host's kernel shows.
pub(crate) fn check_bind(
    source: &Path,
    destination: &str,
    of_the_kernel: bool,
    kind: Option<FileKind>,
) -> Result<bool, Refusal> {
    let (source_path, destination) = (source.to_owned(), destination.to_owned());
    let why = match kind {
        _ if of_the_kernel => "what the host's kernel shows is",
        Some(FileKind::Directory) => return Ok(true),
        Some(FileKind::File) => return Ok(false),
        Some(FileKind::Socket) => "sockets of the host are",
        Some(FileKind::Fifo) => "FIFOs of the host are",
        Some(FileKind::Device) => "devices of the host are",
        None => return Err(Refusal::NoSource { source_path, destination }),
    };
    Err(Refusal::Bind { source_path, destination, why })
}

/// By its text, with what leads up resolved in it; where a symlink leads is seen by who opens it.
pub(crate) fn is_of_the_kernel(source: &Path) -> bool {
    let clean = clean(source);
    FOLDERS_OF_THE_KERNEL.iter().any(|folder| clean.starts_with(folder))
}

/// The path from the root, without that, and with what leads up resolved in its text.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    clean
}

/// The last option that is about it counts, as in mount(8).
fn read_only(options: &[String]) -> ReadOnly {
    let says = |option: &String| match option.as_str() {
        "ro" => Some(ReadOnly::Yes),
        "rro" => Some(ReadOnly::Recursive),
        "rw" | "rrw" => Some(ReadOnly::No),
        _ => None,
    };
    options.iter().rev().find_map(says).unwrap_or(ReadOnly::No)
}

/// What the guest's runtime is told: the bind, with those options that it can apply to a part of the share. `rro` needs
/// a newer runtime than `ro`; propagation between host and guest there is none.
fn rewrite(mount: &mut Value, options: &[String], source: String) {
    let in_guest = |option: &String| match option.as_str() {
        "rro" => Some("ro".to_owned()),
        "rrw" => Some("rw".to_owned()),
        "shared" | "slave" | "private" | "unbindable" => None,
        "rshared" | "rslave" | "rprivate" | "runbindable" => None,
        _ => Some(option.clone()),
    };
    let mut options: Vec<String> = options.iter().filter_map(in_guest).collect();
    if !options.iter().any(|option| option == "bind" || option == "rbind") {
        options.push("bind".to_owned());
    }
    options.push("rprivate".to_owned());
    mount["type"] = "bind".into();
    mount["source"] = source.into();
    mount["options"] = options.into();
}
