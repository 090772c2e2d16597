//! Bringing the VM up: once, and in order. What serving needs comes first; the rest is done on a thread of its own
//! while the guest serves, and whoever needs it waits for its end ([`Booting`]). It never serves.
//!
//! No step is vital: what fails is logged and reported, and the boot goes on, because a guest that lacks something can
//! still say so to its host, and a guest that has ended cannot.

mod cgroup;
mod devices;
mod etc;
mod extras;
mod filesystems;
mod kmsg;
mod modules;
mod network;
mod root;
mod sysctl;
mod timeline;

use std::fmt::Display;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use tracing::{debug, info, warn};

pub use filesystems::mount_proc;
use timeline::Timeline;

use crate::config::{Bounds, Config, Machine};
use crate::guest::booting::Booting;
use crate::guest::clock;
use crate::sys::console;
use crate::sys::power;
use crate::sys::process::PATH;
use crate::sys::rlimit::{self, Limit};
use crate::sys::thread::yield_to_others;

/// Where the image has its modules.
const MODULES: &str = "/lib/modules";

/// A boot that has done what serving needs.
pub struct Begun {
    /// The root could not be moved off the initramfs: `pivot_root` fails, and `runc` needs `--no-pivot`.
    pub no_pivot: bool,
    /// RLIMIT_NOFILE that PID 1 was started with, which is what its children get; none if it was not changed.
    pub nofile_at_start: Option<Limit>,
    rest: Rest,
}

/// Does what serving needs. Blocks for as long as the modules take to probe. Only for PID 1, and while no other thread
/// reads the environment: it changes that. `entered` is the uptime at its first instruction.
pub fn begin(config: &Config, entered: Duration) -> Begun {
    let (bounds, machine, booting) = (config.bounds.clone(), config.machine.clone(), Booting::default());
    let timeline = Timeline::from(entered, machine.profile, booting.clone());
    let mut rest = Rest { bounds, machine, booting, timeline };
    let Boot { no_pivot, nofile_at_start, .. } = rest.run(&TO_SERVE);
    Begun { no_pivot, nofile_at_start, rest }
}

impl Begun {
    /// What others see of it.
    pub fn booting(&self) -> Booting {
        self.rest.booting.clone()
    }

    /// Does the rest on a thread of its own, for which nobody waits. To be called once the guest serves, which ends a
    /// phase. Without a thread the boot is over as it is, and the failure told.
    pub fn finish_in_background(self) {
        let (booting, mut rest) = (self.booting(), self.rest);
        rest.timeline.ends(SERVICE_NEW);
        if let Err(error) = thread::Builder::new().name("boot".into()).spawn(move || rest.finish()) {
            warn!(%error, "cannot go on with the boot");
            booting.failed("boot", "thread", &error);
            booting.end();
        }
    }
}

/// What is needed for what has not been done yet.
struct Rest {
    bounds: Bounds,
    machine: Machine,
    booting: Booting,
    timeline: Timeline,
}

impl Rest {
    /// Runs phases, unless the boot is given up.
    fn run(&mut self, phases: &[Phase]) -> Boot<'_> {
        let mut boot = Boot::new(&self.bounds, &self.machine, self.booting.clone());
        for phase in phases {
            for step in phase.steps {
                if !boot.booting.goes_on() {
                    return boot;
                }
                boot.step = step.name;
                debug!(step = step.name, "boot");
                (step.run)(&mut boot);
            }
            self.timeline.ends(phase.name);
        }
        boot
    }

    /// Runs the last phases and ends the boot, also by a panic: calls wait for that.
    fn finish(mut self) {
        let _end = EndsWith(self.booting.clone());
        if let Err(error) = yield_to_others() {
            warn!(%error, "the boot takes time from what is served");
        }
        self.run(&WHILE_SERVING);
        if !self.booting.goes_on() {
            return;
        }
        if self.timeline.is_told() {
            if let Err(error) = kmsg::tell() {
                warn!(%error, "cannot read the kernel's log");
            }
        }
        let took_ms = self.timeline.closes().as_millis();
        info!(took_ms, "booted");
    }
}

/// Ends the boot when it is dropped.
struct EndsWith(Booting);

impl Drop for EndsWith {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.failed("boot", "panicked", &"the log has its words");
        }
        self.0.end();
    }
}

/// What the spinbox host's profile lines name.
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

/// What serving needs, and what changes the whole process and so comes before there are more threads.
const TO_SERVE: [Phase; 2] = [
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
        steps: &[
            step("device nodes", filesystems::make_nodes),
            step("ctrl-alt-del", ctrl_alt_del),
            step("open files", raise_nofile),
            step("path", set_path),
            step("modules to listen", |boot| modules::load_to_listen(boot, Path::new(MODULES))),
        ],
    },
];

/// Between the two: from the end of what serving needs until it serves.
const SERVICE_NEW: &str = "service-new";

const WHILE_SERVING: [Phase; 4] = [
    Phase {
        name: "wait-block-devices",
        steps: &[
            step("modules", |boot| modules::load_others(boot, Path::new(MODULES))),
            step("block devices", devices::await_all),
            step("writable etc", etc::make_writable),
        ],
    },
    Phase { name: "extras-extract", steps: &[step("extras disk", extras::extract)] },
    Phase {
        name: "cgroup-control",
        steps: &[
            step("cgroup controllers", enable_controllers),
            step("inotify instances", raise_inotify),
            step("sysctls", sysctl::apply),
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
    booting: Booting,
    /// Where the extras disk is, between the step that finds it and the one that extracts it.
    extras_node: Option<String>,
    step: &'static str,
    no_pivot: bool,
    nofile_at_start: Option<Limit>,
}

impl<'a> Boot<'a> {
    fn new(bounds: &'a Bounds, machine: &'a Machine, booting: Booting) -> Boot<'a> {
        Boot { bounds, machine, booting, extras_node: None, step: "", no_pivot: false, nofile_at_start: None }
    }

    /// Notes a failure of the step that runs, and goes on.
    fn attempt<T>(&mut self, what: impl Display, result: io::Result<T>) -> Option<T> {
        result.map_err(|error| self.failed(what, &error)).ok()
    }

    fn failed(&mut self, what: impl Display, error: &dyn Display) {
        warn!(step = self.step, %what, %error, "boot step failed");
        self.booting.failed(self.step, what, error);
    }
}

fn adopt_console(boot: &mut Boot<'_>) {
    boot.attempt("open", console::adopt());
}

fn move_root(boot: &mut Boot<'_>) {
    boot.no_pivot = boot.attempt("move", root::move_off_initramfs()).is_none();
}

fn ctrl_alt_del(boot: &mut Boot<'_>) {
    boot.attempt("set", power::ctrl_alt_del_signals_init());
}

fn enable_controllers(boot: &mut Boot<'_>) {
    cgroup::enable_controllers(boot, Path::new("/sys/fs/cgroup"));
}

fn loopback(boot: &mut Boot<'_>) {
    boot.attempt("lo", crate::net::loopback_up());
}

fn raise_nofile(boot: &mut Boot<'_>) {
    let nofile = boot.bounds.nofile;
    boot.nofile_at_start = boot.attempt(nofile, rlimit::set_nofile(nofile));
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

    pub(super) fn failures(boot: &Boot<'_>) -> usize {
        boot.booting.so_far().failures.lines().len()
    }

    pub(super) fn with_settings(machine: &Machine, step: impl FnOnce(&mut Boot<'_>)) -> usize {
        let bounds = Bounds::default();
        let mut boot = Boot::new(&bounds, machine, Booting::default());
        boot.step = "test";
        step(&mut boot);
        failures(&boot)
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
        let phases = TO_SERVE.iter().chain(&WHILE_SERVING);
        let steps: Vec<&str> = phases.flat_map(|phase| phase.steps).map(|step| step.name).collect();
        let place = |name: &str| steps.iter().position(|step| *step == name).unwrap();
        let orders: [&[&str]; 4] = [
            &["console", "root", "mounts", "device nodes", "modules to listen", "modules"],
            &["modules", "writable etc", "extras disk", "etc"],
            &["modules", "block devices", "extras disk", "cgroup controllers", "loopback"],
            &["etc", "loopback", "addresses"],
        ];
        for order in orders {
            assert!(order.iter().map(|name| place(name)).is_sorted(), "{order:?}");
        }
    }

    #[test]
    fn the_phases_have_the_names_and_the_order_that_hosts_know() {
        let names: Vec<&str> = TO_SERVE.iter().chain(&WHILE_SERVING).map(|phase| phase.name).collect();
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

    fn rest(booting: &Booting) -> Rest {
        let timeline = Timeline::from(Duration::ZERO, false, booting.clone());
        let (bounds, machine) = (Bounds::default(), Machine::default());
        Rest { bounds, machine, booting: booting.clone(), timeline }
    }

    #[test]
    fn a_boot_that_is_given_up_begins_nothing_more() {
        const PHASES: [Phase; 2] = [
            Phase { name: "one", steps: &[step("gives up", |boot| boot.booting.give_up())] },
            Phase { name: "two", steps: &[step("fails", |boot| boot.failed("at all", &"it ran"))] },
        ];
        let booting = Booting::default();
        assert_eq!(failures(&rest(&booting).run(&PHASES)), 0);
        let names: Vec<&str> = booting.so_far().times.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["kernel", "one"]);
    }

    #[test]
    fn a_panic_ends_the_boot_and_is_told() {
        const PHASES: [Phase; 1] =
            [Phase { name: "one", steps: &[step("panics", |_| panic!("on purpose"))] }];
        let booting = Booting::default();
        let mut rest = rest(&booting);
        let thread = thread::spawn(move || {
            let _end = EndsWith(rest.booting.clone());
            rest.run(&PHASES);
        });
        assert!(thread.join().is_err() && !booting.goes_on());
        assert_eq!(booting.so_far().failures.lines(), ["boot panicked: the log has its words"]);
    }
}
