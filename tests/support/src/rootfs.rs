//! Root file systems and `config.json` for containers on the test's own machine.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{json, Value};
use vminit_shim::spec;

/// The statically linked busybox of Debian's package busybox-static.
const BUSYBOX: &str = "/bin/busybox";

/// The programs a test may run in a container.
const APPLETS: [&str; 12] =
    ["sh", "true", "false", "sleep", "echo", "cat", "grep", "kill", "head", "dd", "wc", "ls"];

/// Makes a root file system with busybox in `dir`.
pub fn busybox(dir: &Path) -> PathBuf {
    let root = dir.join("busybox-root");
    for folder in ["bin", "dev", "proc", "sys", "tmp", "etc"] {
        fs::create_dir_all(root.join(folder)).expect("make the root file system");
    }
    fs::copy(BUSYBOX, root.join("bin/busybox")).expect("busybox-static is installed");
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).expect("link an applet");
    }
    root
}

/// A `config.json` for the real runc on this machine, with a root file system in the folder of a daemon, after which its
/// cgroup is named: runc would name it after the container alone, and tests at the same time would share it.
pub fn config(root: &Path, id: &str, args: &[&str]) -> Value {
    let mut config = spec::container(args);
    config["root"] = json!({"path": root});
    config["linux"]["cgroupsPath"] = json!(format!("/{}{id}", cgroup_prefix(root.parent().unwrap_or(root))));
    config
}

/// What the names of the cgroups of a daemon begin with that has this folder.
pub fn cgroup_prefix(dir: &Path) -> String {
    format!("vminitd-test-{}-", dir.file_name().unwrap_or_default().to_string_lossy())
}
