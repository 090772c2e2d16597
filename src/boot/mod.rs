//! Bringing the VM up: once, in order, before anything is served. It does nothing after that.
//!
//! No step is vital: what fails is logged and the boot goes on, because a guest that lacks something can still
//! say so to its host, and a guest that has ended cannot.

mod cgroup;
mod filesystems;
mod modules;
mod root;

use std::fmt::Display;
use std::io;
use std::path::Path;

use tracing::{debug, warn};

use crate::config::{Bounds, Config};
use crate::sys::console;
use crate::sys::power;
use crate::sys::process::PATH;
use crate::sys::rlimit::{self, Limit};

/// What the rest of the guest must know about how the boot went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The root could not be moved off the initramfs: `pivot_root` fails, and `runc` needs `--no-pivot`.
    pub no_pivot: bool,
    /// RLIMIT_NOFILE that PID 1 was started with, which is what its children get; none if it was not changed.
    pub nofile_at_start: Option<Limit>,
    /// How many things went wrong; each was logged.
    pub failures: usize,
}

/// Brings the VM up. Blocks for as long as the modules take to probe. Only for PID 1, and while it has one thread:
/// it changes the environment.
pub fn run(config: &Config) -> Report {
    let mut boot = Boot { bounds: &config.bounds, step: "", report: Report::default() };
    for step in STEPS {
        boot.step = step.name;
        debug!(step = step.name, "boot");
        (step.run)(&mut boot);
    }
    boot.report
}

struct Step {
    name: &'static str,
    run: fn(&mut Boot<'_>),
}

const fn step(name: &'static str, run: fn(&mut Boot<'_>)) -> Step {
    Step { name, run }
}

const STEPS: [Step; 12] = [
    step("console", adopt_console),
    step("root", move_root),
    step("mounts", filesystems::mount_all),
    // An image without nodes has a console only now.
    step("console in devtmpfs", adopt_console),
    step("device nodes", filesystems::make_nodes),
    step("ctrl-alt-del", ctrl_alt_del),
    step("modules", load_modules),
    step("cgroup controllers", enable_controllers),
    step("loopback", loopback),
    step("open files", raise_nofile),
    step("inotify instances", raise_inotify),
    step("path", set_path),
];

/// The boot while it goes on.
struct Boot<'a> {
    bounds: &'a Bounds,
    step: &'static str,
    report: Report,
}

impl Boot<'_> {
    /// Notes a failure of the step that runs, and goes on.
    fn attempt<T>(&mut self, what: impl Display, result: io::Result<T>) -> Option<T> {
        result.map_err(|error| self.failed(what, &error)).ok()
    }

    fn failed(&mut self, what: impl Display, error: &io::Error) {
        warn!(step = self.step, %what, %error, "boot step failed");
        self.report.failures += 1;
    }
}

fn adopt_console(boot: &mut Boot<'_>) {
    boot.attempt("open", console::adopt());
}

fn move_root(boot: &mut Boot<'_>) {
    boot.report.no_pivot = boot.attempt("move", root::move_off_initramfs()).is_none();
}

fn ctrl_alt_del(boot: &mut Boot<'_>) {
    boot.attempt("set", power::ctrl_alt_del_signals_init());
}

fn load_modules(boot: &mut Boot<'_>) {
    modules::load_all(boot, Path::new("/lib/modules"));
}

fn enable_controllers(boot: &mut Boot<'_>) {
    cgroup::enable_controllers(boot, Path::new("/sys/fs/cgroup"));
}

fn loopback(boot: &mut Boot<'_>) {
    boot.attempt("lo", crate::net::loopback_up());
}

fn raise_nofile(boot: &mut Boot<'_>) {
    let nofile = boot.bounds.nofile;
    let before = rlimit::set_nofile(Limit { soft: nofile, hard: nofile });
    boot.report.nofile_at_start = boot.attempt(nofile, before);
}

/// Each container is watched for OOM kills by one instance, and the kernel allows root 128, containers included.
fn raise_inotify(boot: &mut Boot<'_>) {
    const INSTANCES: &str = "8192";
    let set = std::fs::write("/proc/sys/fs/inotify/max_user_instances", INSTANCES);
    boot.attempt(INSTANCES, set);
}

fn set_path(_: &mut Boot<'_>) {
    std::env::set_var("PATH", PATH);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A boot for one step under test, with the number of failures it ends with.
    pub(super) fn failures_of(step: impl FnOnce(&mut Boot<'_>)) -> usize {
        let bounds = Bounds::default();
        let mut boot = Boot { bounds: &bounds, step: "test", report: Report::default() };
        step(&mut boot);
        boot.report.failures
    }

    #[test]
    fn a_failure_is_counted_and_the_step_goes_on() {
        let failures = failures_of(|boot| {
            assert_eq!(boot.attempt("first", Err::<(), _>(io::ErrorKind::NotFound.into())), None);
            assert_eq!(boot.attempt("second", Ok(2)), Some(2));
        });
        assert_eq!(failures, 1);
    }

    #[test]
    fn the_root_is_moved_before_anything_is_mounted_and_modules_load_before_the_loopback() {
        let place = |name| STEPS.iter().position(|step| step.name == name).unwrap();
        let order =
            ["console", "root", "mounts", "device nodes", "modules", "cgroup controllers", "loopback"];
        assert!(order.map(place).is_sorted());
    }
}
