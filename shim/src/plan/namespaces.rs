//! Namespaces: the VM is the boundary of all of them, and what is private to a container is so inside it.

use std::path::PathBuf;

use serde_json::{json, Map, Value};

use super::members::{list, object, text};
use super::Refusal;

/// Where the container's interfaces come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// A namespace is made for the container, and somebody fills it.
    New,
    /// The namespace at this path.
    At(PathBuf),
    /// The host's own: user-mode networking stands for it.
    Host,
}

/// Those a container has to have of its own; without one it would share the host's.
const PRIVATE: [&str; 4] = ["pid", "ipc", "uts", "mount"];

/// Takes the network namespace out, and leaves what the guest's runtime is to make.
pub(super) fn divide(spec: &mut Map<String, Value>) -> Result<Network, Refusal> {
    let linux = object(spec, "linux")?;
    let has_offsets = linux
        .get("timeOffsets")
        .is_some_and(|offsets| offsets.as_object().is_some_and(|all| !all.is_empty()));
    refuse_user_mappings(linux)?;
    let namespaces = list(linux, "namespaces")?;
    refuse_shared(namespaces)?;
    let network = network(namespaces)?;
    namespaces.retain(|namespace| match namespace["type"].as_str() {
        Some("network") => false,
        // runc before 1.2 refuses it, and without offsets it changes nothing.
        Some("time") => has_offsets,
        _ => true,
    });
    if !namespaces.iter().any(|namespace| namespace["type"] == "cgroup") {
        namespaces.push(json!({"type": "cgroup"}));
    }
    Ok(network)
}

fn refuse_user_mappings(linux: &Map<String, Value>) -> Result<(), Refusal> {
    let has =
        |name| linux.get(name).and_then(Value::as_array).is_some_and(|all: &Vec<Value>| !all.is_empty());
    match has("uidMappings") || has("gidMappings") {
        true => Err(Refusal::UserNamespace),
        false => Ok(()),
    }
}

fn refuse_shared(namespaces: &[Value]) -> Result<(), Refusal> {
    if namespaces.iter().any(|namespace| namespace["type"] == "user") {
        return Err(Refusal::UserNamespace);
    }
    for kind in PRIVATE {
        let namespace = namespaces.iter().find(|namespace| namespace["type"] == kind);
        let namespace = namespace.ok_or(Refusal::HostNamespace(kind))?;
        if let Some(path) = text(namespace, "path") {
            return Err(Refusal::SharedNamespace { kind, path: path.to_owned() });
        }
    }
    let shared = |kind| namespaces.iter().find(|ns| ns["type"] == kind).and_then(|ns| text(ns, "path"));
    for kind in ["cgroup", "time"] {
        if let Some(path) = shared(kind) {
            return Err(Refusal::SharedNamespace { kind, path: path.to_owned() });
        }
    }
    Ok(())
}

/// A namespace below `/proc` is that of a running process: its traffic would be stolen from it.
fn network(namespaces: &[Value]) -> Result<Network, Refusal> {
    let Some(namespace) = namespaces.iter().find(|namespace| namespace["type"] == "network") else {
        return Ok(Network::Host);
    };
    match text(namespace, "path") {
        None => Ok(Network::New),
        Some(path) if path.starts_with("/proc/") => Err(Refusal::NetworkOfTask(path.to_owned())),
        Some(path) => Ok(Network::At(path.into())),
    }
}
