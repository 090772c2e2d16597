//! Mounts: what the guest's kernel makes by itself, and what comes from the host.

use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value};

use super::members::{list, text, texts};
use super::{FileKind, Refusal, World};

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
const OF_THE_GUEST: [&str; 8] = ["proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2", "ramfs"];

/// Folders of the host that are views of its kernel: bound from a microVM they would be of another machine.
const OF_THE_KERNEL: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Takes the binds out as volumes, and points them at where the guest finds these.
pub(super) fn divide(spec: &mut Map<String, Value>, world: &World<'_>) -> Result<Vec<Volume>, Refusal> {
    // What is mounted later on the host is seen in the guest, whatever this says; what is mounted in the guest stays there.
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
    match OF_THE_GUEST.contains(&kind) {
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
    let refused = |why| Refusal::Bind { source_path: source.clone(), destination: destination.clone(), why };
    if is_of_the_kernel(&source) {
        return Err(refused("what the host's kernel shows is"));
    }
    let directory = match (world.kind_of)(&source) {
        Some(FileKind::Directory) => true,
        Some(FileKind::File) => false,
        Some(FileKind::Socket) => return Err(refused("sockets of the host are")),
        Some(FileKind::Fifo) => return Err(refused("FIFOs of the host are")),
        Some(FileKind::Device) => return Err(refused("devices of the host are")),
        None => return Err(Refusal::NoSource { source_path: source, destination }),
    };
    Ok(Volume { directory, read_only: read_only(options), source, destination })
}

/// By its text, with what leads up resolved in it; where a symlink leads is seen by who opens it.
fn is_of_the_kernel(source: &Path) -> bool {
    let mut clean = PathBuf::new();
    for part in source.components() {
        match part {
            Component::ParentDir => drop(clean.pop()),
            Component::CurDir => {}
            part => clean.push(part),
        }
    }
    OF_THE_KERNEL.iter().any(|folder| clean.starts_with(folder))
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

/// What the guest's runtime is told: the bind, with those options that it can apply to a part of the share. `rro` needs a
/// newer runtime than `ro`; propagation between host and guest there is none.
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
