//! Bringing the VM up: once, in order, before anything is served. It does nothing after that.
//!
//! No step is vital: what fails is logged and reported, and the boot goes on, because a guest that lacks something can
//! still say so to its host, and a guest that has ended cannot.

mod cgroup;
mod devices;
mod etc;
mod extras;
mod filesystems;
pub mod kmsg;
mod modules;
mod network;
mod report;
mod root;
mod sysctl;
mod timeline;

use std::fmt::Display;
use std::io;
use std::path::Path;
use std::time::Duration;

use tracing::{debug, warn};

pub use filesystems::mount_proc;
pub use report::Report;
use timeline::Timeline;

use crate::config::{Bounds, Config, Machine};
use crate::guest::clock;
use crate::sys::console;
use crate::sys::power;
use crate::sys::process::PATH;
use crate::sys::rlimit;

/// Brings the VM up. Blocks for as long as the modules take to probe. Only for PID 1, and while no other thread reads
/// the environment: it changes that. `entered` is the uptime at its first instruction.
pub fn run(config: &Config, entered: Duration) -> Report {
    let mut boot = Boot::new(&config.bounds, &config.machine);
    boot.report.timeline = Timeline::from(entered, config.machine.profile);
    for phase in PHASES {
        for step in phase.steps {
            boot.step = step.name;
            debug!(step = step.name, "boot");
            (step.run)(&mut boot);
        }
        boot.report.timeline.ends(phase.name);
    }
    boot.report
}

/// What the spinbox host's profile lines name; a phase without steps is told all the same.
struct Phase {
    name: &'static str,
    steps: &'static [Step],
}

struct Step {
    name: &'static str,
    run: fn(&mut Boot<'_>),
}

const fn step(name: &'static str, run: fn(&mut Boot<'_>)) -> Step {
    Step { name, run }
}

const PHASES: [Phase; 6] = [
    Phase {
        name: "mount-filesystems",
        steps: &[
            step("console", adopt_console),
            step("root", move_root),
            step("mounts", filesystems::mount_all),
            // An image without nodes has a console only now.
            step("console in devtmpfs", adopt_console),
        ],
    },
    Phase {
        name: "dev-nodes",
        steps: &[step("device nodes", filesystems::make_nodes), step("ctrl-alt-del", ctrl_alt_del)],
    },
    Phase {
        name: "wait-block-devices",
        steps: &[
            step("modules", load_modules),
            step("block devices", devices::await_all),
            step("writable etc", etc::make_writable),
        ],
    },
    Phase { name: "extras-extract", steps: &[step("extras disk", extras::extract)] },
    Phase {
        name: "cgroup-control",
        steps: &[
            step("cgroup controllers", enable_controllers),
            step("open files", raise_nofile),
            step("inotify instances", raise_inotify),
            step("sysctls", sysctl::apply),
            step("path", set_path),
            step("clock", set_clock),
        ],
    },
    Phase {
        name: "network",
        steps: &[step("etc", etc::fill), step("loopback", loopback), step("addresses", network::configure)],
    },
];

/// The boot while it goes on.
struct Boot<'a> {
    bounds: &'a Bounds,
    machine: &'a Machine,
    /// Where the extras disk is, between the step that finds it and the one that extracts it.
    extras_node: Option<String>,
    step: &'static str,
    report: Report,
}

impl<'a> Boot<'a> {
    fn new(bounds: &'a Bounds, machine: &'a Machine) -> Boot<'a> {
        Boot { bounds, machine, extras_node: None, step: "", report: Report::default() }
    }

    /// Notes a failure of the step that runs, and goes on.
    fn attempt<T>(&mut self, what: impl Display, result: io::Result<T>) -> Option<T> {
        result.map_err(|error| self.failed(what, &error)).ok()
    }

    fn failed(&mut self, what: impl Display, error: &dyn Display) {
        warn!(step = self.step, %what, %error, "boot step failed");
        self.report.failures.add(self.step, what, error);
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
    boot.report.nofile_at_start = boot.attempt(nofile, rlimit::set_nofile(nofile));
}

/// Each container is watched for OOM kills by one instance, and the kernel allows root 128, containers included.
fn raise_inotify(boot: &mut Boot<'_>) {
    const INSTANCES: &str = "8192";
    let set = std::fs::write("/proc/sys/fs/inotify/max_user_instances", INSTANCES);
    boot.attempt(INSTANCES, set);
}

fn set_clock(boot: &mut Boot<'_>) {
    boot.attempt("rtc", clock::set_if_absurd());
}

fn set_path(_: &mut Boot<'_>) {
    std::env::set_var("PATH", PATH);
}

#[cfg(test)]
mod tests {
    use nix::unistd::{chdir, chroot};

    use super::*;
    use crate::sys::mount::{mount, MsFlags};
    use crate::sys::sysctl::Name;
    use crate::sys::testing::in_private_mounts;

    /// A boot for one step under test, with the number of failures it ends with.
    pub(super) fn failures_of(step: impl FnOnce(&mut Boot<'_>)) -> usize {
        with_settings(&Machine::default(), step)
    }

    pub(super) fn with_settings(machine: &Machine, step: impl FnOnce(&mut Boot<'_>)) -> usize {
        let bounds = Bounds::default();
        let mut boot = Boot::new(&bounds, machine);
        boot.step = "test";
        step(&mut boot);
        boot.report.failures.lines().len()
    }

    /// Runs `body` with an empty root.
    pub(super) fn in_empty_root(body: impl FnOnce() + Send) {
        let dir = tempfile::tempdir().unwrap();
        in_private_mounts(|| {
            mount("root", dir.path(), "tmpfs", MsFlags::empty(), "").unwrap();
            chroot(dir.path()).unwrap();
            chdir("/").unwrap();
            body();
        });
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
    fn each_sysctl_that_fails_is_a_failure_of_its_own() {
        let sysctls =
            ["no.such", "nor/this"].map(|name| (Name::parse(name).unwrap(), "1".to_owned())).to_vec();
        assert_eq!(with_settings(&Machine { sysctls, ..Machine::default() }, sysctl::apply), 2);
    }

    #[test]
    fn what_a_step_needs_comes_before_it() {
        let steps: Vec<&str> = PHASES.iter().flat_map(|phase| phase.steps).map(|step| step.name).collect();
        let place = |name: &str| steps.iter().position(|step| *step == name).unwrap();
        let orders: [&[&str]; 4] = [
            &["console", "root", "mounts", "device nodes", "modules", "cgroup controllers", "loopback"],
            &["modules", "writable etc", "extras disk", "etc"],
            &["modules", "block devices", "extras disk", "cgroup controllers"],
            &["etc", "loopback", "addresses"],
        ];
        for order in orders {
            assert!(order.iter().map(|name| place(name)).is_sorted(), "{order:?}");
        }
    }

    #[test]
    fn the_phases_have_the_names_and_the_order_that_hosts_know() {
        let names = PHASES.map(|phase| phase.name);
        let known = [
            "mount-filesystems",
            "dev-nodes",
            "wait-block-devices",
            "extras-extract",
            "cgroup-control",
            "network",
        ];
        assert_eq!(names, known);
    }
}
