//! What a container's `config.json` asks for, divided between guest and host: pure, from JSON to a [`Plan`] or to a
//! [`Refusal`] that names what cannot be had in a microVM. It touches nothing and asks the system nothing: what a
//! bind's source is, it is told.
//!
//! A spec is edited as a tree of JSON in which only the members named here are looked at, so that what a newer client
//! writes gets to the runtime in the guest.

mod devices;
mod hooks;
mod members;
mod mounts;
mod namespaces;
mod refusal;
mod resources;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

pub use hooks::{Hook, Hooks};
pub(crate) use mounts::{check_bind, clean, is_of_the_kernel};
pub use mounts::{ReadOnly, Volume};
pub use namespaces::Network;
pub use refusal::Refusal;
pub use resources::{divide_resources, Demand};

/// What is done for one container.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// `config.json` for the guest. Its binds have the sources of [`Layout::volume`], its root is `rootfs`.
    pub guest: Value,
    /// The container's root on the host.
    pub root: Root,
    /// What is bound into the container, in the order of the spec.
    pub volumes: Vec<Volume>,
    pub network: Network,
    /// `net.*` settings, which belong to the VM's network, and not to a namespace in it.
    pub net_sysctls: BTreeMap<String, String>,
    pub hooks: Hooks,
    /// What the container may use, which the VM has to have.
    pub demand: Demand,
    /// Annotations of the spec; some choose what the VM is like.
    pub annotations: BTreeMap<String, String>,
    /// What was left out because it has no meaning in a microVM: one line of log each.
    pub left_out: Vec<String>,
}

/// The root of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Relative to the bundle, or absolute.
    pub path: PathBuf,
    /// Nothing in the container may write to it.
    pub read_only: bool,
    /// What has to be there when the guest's runtime comes. In a root that is read-only it cannot be made any more.
    pub points: Vec<Point>,
}

/// A file or folder of the root that something is mounted on, or that the container begins in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// In the container.
    pub path: PathBuf,
    pub directory: bool,
    /// Of the folder or file, if it has to be made.
    pub mode: u32,
}

/// What is at the source of a bind, by stat(2); symlinks are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    File,
    Directory,
    Socket,
    Fifo,
    Device,
}

/// What the planner has to be told of the world outside of the spec.
pub struct World<'a> {
    /// The container's id, in containerd's words.
    pub id: &'a str,
    /// Against which relative paths of the spec are resolved.
    pub bundle: &'a Path,
    /// What is at a path; none if nothing is, or it cannot be told.
    pub kind_of: &'a dyn Fn(&Path) -> Option<FileKind>,
    /// Where the guest finds volume `n`.
    pub volume_in_guest: &'a dyn Fn(usize) -> String,
}

/// Divides a spec.
///
/// # Errors
/// The first thing found that a microVM cannot give, and a spec that is no object.
pub fn plan(config: &Value, world: &World<'_>) -> Result<Plan, Refusal> {
    let mut spec = config.as_object().cloned().ok_or(Refusal::Malformed("config.json"))?;
    let mut left_out = Vec::new();
    let network = namespaces::divide(&mut spec)?;
    let hooks = hooks::take(&mut spec)?;
    let volumes = mounts::divide(&mut spec, world)?;
    let points = mounts::points(&spec, &volumes);
    let root = root(&mut spec, points)?;
    devices::divide(&mut spec, &mut left_out)?;
    let demand = resources::divide(&mut spec, &mut left_out)?;
    let net_sysctls = resources::take_net_sysctls(&mut spec)?;
    remove_labels(&mut spec)?;
    place_cgroup(&mut spec, world.id)?;
    let annotations = annotations(&spec)?;
    Ok(Plan {
        guest: Value::Object(spec),
        root,
        volumes,
        network,
        net_sysctls,
        hooks,
        demand,
        annotations,
        left_out,
    })
}

/// The guest's runtime gets a root that the shim has put together, under one name, and writable as far as the guest can
/// tell: a root that is read-only is so on the host, where the guest cannot undo it.
fn root(spec: &mut Map<String, Value>, points: Vec<Point>) -> Result<Root, Refusal> {
    let root = members::object(spec, "root")?;
    let path = root.get("path").and_then(Value::as_str).unwrap_or("rootfs").into();
    let read_only = root.get("readonly").and_then(Value::as_bool).unwrap_or(false);
    root.insert("path".into(), "rootfs".into());
    Ok(Root { path, read_only, points })
}

/// The guest's kernel has neither AppArmor nor SELinux loaded, and the labels name policies of the host.
fn remove_labels(spec: &mut Map<String, Value>) -> Result<(), Refusal> {
    if let Some(process) = spec.get_mut("process") {
        remove_process_labels(process);
    }
    members::object(spec, "linux")?.remove("mountLabel");
    Ok(())
}

/// Those of a process, which an exec has too.
pub fn remove_process_labels(process: &mut Value) {
    if let Some(process) = process.as_object_mut() {
        process.remove("apparmorProfile");
        process.remove("selinuxLabel");
    }
}

/// The host's place among cgroups means nothing in the guest, and may be in systemd's form, which no systemd reads
/// there.
fn place_cgroup(spec: &mut Map<String, Value>, id: &str) -> Result<(), Refusal> {
    members::object(spec, "linux")?.insert("cgroupsPath".into(), format!("/vminit/{id}").into());
    Ok(())
}

fn annotations(spec: &Map<String, Value>) -> Result<BTreeMap<String, String>, Refusal> {
    members::strings(spec.get("annotations"), "annotations")
}
