//! Handing the controllers of cgroup v2 to the groups below the root.

use std::fs;
use std::path::Path;

use super::Boot;

/// The controllers `runc` can limit a container with.
const WANTED: [&str; 7] = ["cpu", "cpuset", "io", "memory", "pids", "hugetlb", "rdma"];

/// Enables those that the kernel has for the children of `root`: one write each, since one refusal fails a whole write.
pub(super) fn enable_controllers(boot: &mut Boot<'_>, root: &Path) {
    let Some(present) =
        boot.attempt("cgroup.controllers", fs::read_to_string(root.join("cgroup.controllers")))
    else {
        return;
    };
    let present: Vec<&str> = present.split_whitespace().collect();
    for controller in WANTED.into_iter().filter(|wanted| present.contains(wanted)) {
        enable(boot, root, controller);
    }
}

fn enable(boot: &mut Boot<'_>, root: &Path, controller: &str) {
    boot.attempt(controller, fs::write(root.join("cgroup.subtree_control"), format!("+{controller}")));
}

#[cfg(test)]
mod tests {
    use super::super::tests::failures_of;
    use super::*;

    #[test]
    fn a_controller_the_kernel_lacks_is_not_asked_for() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("cgroup.controllers"), "misc memory\n").unwrap();
        assert_eq!(failures_of(|boot| enable_controllers(boot, root.path())), 0);
        assert_eq!(fs::read_to_string(root.path().join("cgroup.subtree_control")).unwrap(), "+memory");
    }

    #[test]
    fn without_cgroup_v2_there_is_one_failure() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(failures_of(|boot| enable_controllers(boot, root.path())), 1);
    }
}
