//! What this program needs to know of a bundle's `config.json`. Everything else in it is runc's business.

use std::path::Path;

use serde_json::Value;

/// Whether the container has a pid namespace of its own, so that the kernel kills all of it when its init dies.
///
/// `false` also when that cannot be told: the caller then kills the rest itself, as containerd's shim does.
/// Blocking, but for one small file.
pub fn has_private_pid_namespace(bundle: &Path) -> bool {
    let Ok(text) = std::fs::read(bundle.join("config.json")) else { return false };
    serde_json::from_slice(&text).is_ok_and(|spec: Value| private_pid_namespace(&spec))
}

fn private_pid_namespace(spec: &Value) -> bool {
    let joins_none = |namespace: &Value| namespace["path"].as_str().unwrap_or_default().is_empty();
    let namespaces = spec["linux"]["namespaces"].as_array();
    namespaces.is_some_and(|all| all.iter().any(|ns| ns["type"] == "pid" && joins_none(ns)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(namespaces: Value, expected: bool) {
        assert_eq!(private_pid_namespace(&json!({"linux": {"namespaces": namespaces}})), expected);
    }

    #[test]
    fn only_a_pid_namespace_without_a_path_is_private() {
        check(json!([{"type": "mount"}, {"type": "pid"}]), true);
        check(json!([{"type": "pid", "path": ""}]), true);
        check(json!([{"type": "pid", "path": "/proc/1/ns/pid"}]), false);
        check(json!([{"type": "mount"}]), false);
        check(json!(null), false);
    }
}
