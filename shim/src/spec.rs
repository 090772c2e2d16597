//! A small builder of OCI `config.json`, for containers that a microVM runs by itself: it has no network namespace and
//! no cgroup namespace of its own, as the VM is its boundary. Never reads one.

use serde_json::{json, Value};

/// Root's usual capabilities in a container, containerd's default set.
const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// What root has beyond them (linux/capability.h of Linux 5.9 and later, in its order).
const FURTHER_CAPABILITIES: [&str; 27] = [
    "CAP_DAC_READ_SEARCH",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_LEASE",
    "CAP_AUDIT_CONTROL",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A whole `config.json` whose init runs `args` on `rootfs/` in the bundle.
pub fn container(args: &[&str]) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": process(args),
        "root": { "path": "rootfs" },
        "hostname": "vminit",
        "mounts": mounts(),
        "linux": {
            "namespaces": [{ "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }],
        },
    })
}

/// An OCI process that runs `args` as root in `/`, without a terminal: the `process` of a container, or an exec.
pub fn process(args: &[&str]) -> Value {
    json!({
        "terminal": false,
        "user": { "uid": 0, "gid": 0 },
        "args": args,
        "env": [PATH],
        "cwd": "/",
        "capabilities": {
            "bounding": CAPABILITIES,
            "effective": CAPABILITIES,
            "permitted": CAPABILITIES,
        },
    })
}

/// Lets a container see the machine's processes: takes its own pid namespace away.
pub fn share_pids(config: &mut Value) {
    if let Some(namespaces) = config["linux"]["namespaces"].as_array_mut() {
        namespaces.retain(|namespace| namespace["type"] != "pid");
    }
}

/// Limits the container's memory to `bytes`, with no swap beyond them.
pub fn limit_memory(config: &mut Value, bytes: u64) {
    config["linux"]["resources"]["memory"] = json!({ "limit": bytes, "swap": bytes });
}

/// Shows `source` of the machine, and what is mounted below it, at `destination` in the container.
pub fn bind(config: &mut Value, source: &str, destination: &str) {
    if let Some(mounts) = config["mounts"].as_array_mut() {
        let options = ["rbind", "rw"];
        mounts.push(
            json!({ "destination": destination, "type": "bind", "source": source, "options": options }),
        );
    }
}

/// Gives a container's init every capability.
pub fn grant_all_capabilities(config: &mut Value) {
    grant_all_capabilities_to(&mut config["process"]);
}

/// Gives an OCI process every capability.
pub fn grant_all_capabilities_to(process: &mut Value) {
    let all: Vec<&str> = CAPABILITIES.into_iter().chain(FURTHER_CAPABILITIES).collect();
    process["capabilities"] = json!({ "bounding": all, "effective": all, "permitted": all });
}

fn mounts() -> Value {
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": kind, "options": options });
    json!([
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
        ),
        mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_runs_its_args_without_a_terminal_and_shares_network_and_cgroup() {
        let config = container(&["/bin/true", "x"]);
        assert_eq!(config["process"], process(&["/bin/true", "x"]));
        assert_eq!(config["process"]["terminal"], false);
        assert_eq!(config["root"]["path"], "rootfs");
        let namespaces: Vec<_> =
            config["linux"]["namespaces"].as_array().unwrap().iter().map(|n| n["type"].clone()).collect();
        assert_eq!(namespaces, ["pid", "ipc", "uts", "mount"]);
    }
    #[test]
    fn a_container_that_shares_pids_keeps_its_other_namespaces() {
        let mut config = container(&["/bin/true"]);
        share_pids(&mut config);
        let namespaces = json!([{ "type": "ipc" }, { "type": "uts" }, { "type": "mount" }]);
        assert_eq!(config["linux"]["namespaces"], namespaces);
    }

    #[test]
    fn limits_binds_and_capabilities_are_added_to_what_is_there() {
        let mut config = container(&["/bin/true"]);
        limit_memory(&mut config, 4096);
        bind(&mut config, "/run", "/mnt");
        grant_all_capabilities(&mut config);
        assert_eq!(config["linux"]["resources"]["memory"], json!({ "limit": 4096, "swap": 4096 }));
        assert_eq!(config["mounts"].as_array().unwrap().last().unwrap()["source"], "/run");
        assert_eq!(config["process"]["capabilities"]["effective"].as_array().unwrap().len(), 41);
        assert_eq!(config["process"]["args"], json!(["/bin/true"]));
    }
}
