//! Device nodes: the guest's kernel has its own, and none of the host's hardware.

use serde_json::{Map, Value};

use super::members::{list, object};
use super::Refusal;

/// Character devices of the guest's kernel that a container may be given, by major and minor number
/// (Documentation/admin-guide/devices.txt in the kernel): null, zero, full, random, urandom, tty, ptmx, fuse, tun.
const IN_GUEST: [(u64, u64); 9] =
    [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (10, 229), (10, 200)];

/// Leaves the nodes that the guest has. Of the others, those of a container that may use every device are left out, for
/// its client lists all that the host has; one that was named is refused.
pub(super) fn divide(spec: &mut Map<String, Value>, left_out: &mut Vec<String>) -> Result<(), Refusal> {
    let linux = object(spec, "linux")?;
    let all_allowed = allows_all(linux);
    let devices = list(linux, "devices")?;
    let absent: Vec<String> = devices.iter().filter(|device| !is_in_guest(device)).map(path).collect();
    match absent.first() {
        Some(first) if !all_allowed => return Err(Refusal::Device(first.clone())),
        _ => left_out.extend(absent.iter().map(|path| format!("the device {path}"))),
    }
    devices.retain(is_in_guest);
    Ok(())
}

fn is_in_guest(device: &Value) -> bool {
    let number = |name: &str| device[name].as_u64();
    let character = matches!(device["type"].as_str(), Some("c" | "u"));
    let known = number("major").zip(number("minor")).is_some_and(|both| IN_GUEST.contains(&both));
    // A FIFO is made, and not found.
    device["type"] == "p" || (character && known)
}

fn path(device: &Value) -> String {
    device["path"].as_str().unwrap_or_default().to_owned()
}

/// The last rule that is about all devices says so.
fn allows_all(linux: &Map<String, Value>) -> bool {
    let rules = linux.get("resources").and_then(|resources| resources["devices"].as_array());
    let about_all = |rule: &&Value| {
        matches!(rule["type"].as_str(), None | Some("a" | ""))
            && rule["major"].is_null()
            && rule["minor"].is_null()
    };
    let last = rules.and_then(|rules| rules.iter().rfind(about_all));
    last.is_some_and(|rule| rule["allow"] == true)
}
