//! Namespaces of a test's own, so that no test changes the machine.

use nix::sched::{unshare, CloneFlags};
use nix::unistd::geteuid;

use super::mount::{mount, MsFlags};

/// Runs `body` in a thread that has its own mounts, root and working directory.
pub fn in_private_mounts(body: impl FnOnce() + Send) {
    in_private(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS, || {
        mount("", "/".as_ref(), "", MsFlags::MS_PRIVATE | MsFlags::MS_REC, "").unwrap();
        body();
    });
}

/// Runs `body` in a thread that has a network of its own, in which nothing is up.
pub fn in_private_network(body: impl FnOnce() + Send) {
    in_private(CloneFlags::CLONE_NEWNET, body);
}

/// Needs root; without it the test says so and passes.
fn in_private(namespaces: CloneFlags, body: impl FnOnce() + Send) {
    if !geteuid().is_root() {
        eprintln!("skipped: a namespace of its own needs root");
        return;
    }
    let thread = || {
        unshare(namespaces).unwrap();
        body();
    };
    let ended = std::thread::scope(|scope| scope.spawn(thread).join());
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}
