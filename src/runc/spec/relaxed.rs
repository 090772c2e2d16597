//! The edits of the policy `relaxed`: what a host whose boundary is the VM takes off the container inside it.
//!
//! It never touches a limit: those on cpu, memory, pids and io are the container's own, and are what its user asked
//! for.

use std::path::Path;

use serde_json::{json, Map, Value};

use super::{member, SpecError};

/// What hides parts of the VM from a container, or forbids it system calls.
const RESTRICTIONS: [&str; 3] = ["readonlyPaths", "maskedPaths", "seccomp"];

/// Mounts that come with the VM's `/dev`.
const IN_DEV: [&str; 3] = ["/dev/pts", "/dev/shm", "/dev/mqueue"];

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Edits a spec; doing so twice is the same as once.
pub(super) fn relax(spec: &mut Map<String, Value>, resolv_conf: &Path) -> Result<(), SpecError> {
    let linux = member(spec, "linux")?;
    for name in RESTRICTIONS {
        linux.remove(name);
    }
    let all_devices = json!([{"allow": true, "access": "rwm"}]);
    member(linux, "resources")?.insert("devices".into(), all_devices);
    relax_mounts(mounts(spec)?, resolv_conf);
    Ok(())
}

/// The mounts of a spec, none if it has no such member.
fn mounts(spec: &mut Map<String, Value>) -> Result<&mut Vec<Value>, SpecError> {
    let mounts = spec.entry("mounts").or_insert(Value::Null);
    if mounts.is_null() {
        *mounts = Value::Array(Vec::new());
    }
    mounts.as_array_mut().ok_or(SpecError::Kind { member: "mounts", expected: "an array" })
}

fn relax_mounts(mounts: &mut Vec<Value>, resolv_conf: &Path) {
    mounts.retain(|mount| !IN_DEV.iter().any(|place| is_at(mount, place)));
    for mount in mounts.iter_mut().filter(|mount| is_at(mount, "/dev")) {
        mount["type"] = "bind".into();
        mount["source"] = "/dev".into();
        mount["options"] = json!(["rbind", "rw"]);
    }
    let has_resolver = mounts.iter().any(|mount| is_at(mount, RESOLV_CONF));
    // runc refuses to bind what is not there; a VM without a network has no such file. JSON cannot hold a path that
    // is no text.
    if let (false, true, Some(source)) = (has_resolver, resolv_conf.is_file(), resolv_conf.to_str()) {
        mounts.push(json!({
            "destination": RESOLV_CONF, "type": "bind", "source": source, "options": ["rbind", "ro"],
        }));
    }
}

/// Whether a mount's destination is this place, however it is spelled (`/dev/`, `//dev`).
fn is_at(mount: &Value, place: &str) -> bool {
    mount["destination"].as_str().is_some_and(|destination| Path::new(destination) == Path::new(place))
}
