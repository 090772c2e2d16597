//! The action `hold`: this process becomes the holder of a container, and is nothing else from then on. Owns the order
//! of the steps; never opens or runs anything of the container's root, and never comes back.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::RawFd;
use std::path::Path;

use nix::mount::{mount, umount2, MntFlags, MsFlags};
use nix::sched::{setns, unshare, CloneFlags};
use nix::sys::prctl;
use nix::sys::resource::{setrlimit, Resource};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{chdir, close, getppid, pivot_root, setgroups, setsid};
use rustix::io::Errno;
use rustix::thread::{remove_capability_from_bounding_set, set_capabilities, CapabilitySet, CapabilitySets};

use super::order::Order;
use super::{filter, HoldError, READY};
use crate::plan::Network;
use crate::sys;

const STDIN: RawFd = 0;
/// The pipe to the shim, to whose end it reads.
const STDOUT: RawFd = 1;
const STDERR: RawFd = 2;

/// Where the empty root is mounted before it becomes the root; any folder of a host would do.
const EMPTY_AT: &str = "/run";
/// `size` and `nr_inodes` count blocks and inodes with the root itself (tmpfs(5)).
const EMPTY_OPTIONS: &str = "size=4k,nr_inodes=1,mode=755";

/// A limit of 0 keeps no dump from a program that `core_pattern` names; 1 is what the kernel refuses to dump for in
/// both cases (`fs/coredump.c`, where it stops a dump of the dumping program).
const CORE_LIMIT: u64 = 1;

/// Becomes the holder and waits to be killed. Standard output is a pipe on which the shim is told how it went, and is
/// closed when all is done. To be called first thing in a process with one thread.
///
/// # Errors
/// Any [`HoldError`], told to the shim already. The process has to end then.
pub fn hold(args: &[String]) -> Result<Infallible, HoldError> {
    prepare(args).and_then(|()| seal()).inspect_err(|error| {
        // A shim that does not listen has gone.
        let _ = write!(io::stdout(), "cannot {error}").and_then(|()| io::stdout().flush());
    })
}

fn prepare(args: &[String]) -> Result<(), HoldError> {
    let order = Order::parse(args).ok_or(HoldError::Usage)?;
    follow(order.parent)?;
    setsid().map_err(step("begin a session"))?;
    prctl::set_name(c"vminit-hold").map_err(step("take a name"))?;
    join_network(&order.network)?;
    enter(order.root.as_deref())?;
    renounce()
}

fn step<E: Into<io::Error>>(step: impl Into<String>) -> impl FnOnce(E) -> HoldError {
    move |source| HoldError::Step { step: step.into(), source: source.into() }
}

/// Ties our life to that of the shim's thread that started us.
fn follow(parent: u32) -> Result<(), HoldError> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(step("arm the parent-death signal"))?;
    match u32::try_from(getppid().as_raw()) {
        Ok(pid) if pid == parent => Ok(()),
        _ => Err(HoldError::Orphan),
    }
}

fn join_network(network: &Network) -> Result<(), HoldError> {
    match network {
        Network::Host => Ok(()),
        Network::New => {
            unshare(CloneFlags::CLONE_NEWNET).map_err(step("make a network namespace"))?;
            sys::bring_up_loopback().map_err(step("bring up the loopback"))
        }
        Network::At(path) => {
            let name = path.display();
            let namespace = File::open(path).map_err(step(format!("open the network namespace {name}")))?;
            setns(namespace, CloneFlags::CLONE_NEWNET)
                .map_err(step(format!("enter the network namespace {name}")))
        }
    }
}

/// Makes the root ours alone, in a mount namespace that holds nothing else: neither the host's mounts nor the shim's
/// are busy because of us.
fn enter(root: Option<&Path>) -> Result<(), HoldError> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(step("make a mount namespace"))?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).map_err(step("make the mounts private"))?;
    match root {
        Some(root) => {
            // `pivot_root` takes only what is a mount.
            let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
            mount(Some(root), root, None::<&str>, bind, None::<&str>).map_err(step("bind the root"))?;
            chdir(root).map_err(step("go to the root"))?;
        }
        None => {
            let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            mount(Some("none"), EMPTY_AT, Some("tmpfs"), flags, Some(EMPTY_OPTIONS))
                .map_err(step("mount an empty root"))?;
            chdir(EMPTY_AT).map_err(step("go to the root"))?;
        }
    }
    // The old root comes to lie on the new one, and is taken away from there (pivot_root(2), NOTES).
    pivot_root(".", ".").map_err(step("change the root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(step("leave the old root"))?;
    chdir("/").map_err(step("go to the root"))
}

/// Gives up everything but the uid. That stays 0 and the process dumpable, or else root without CAP_SYS_PTRACE could
/// not look into `/proc/<pid>` (ptrace(2), access mode checking).
fn renounce() -> Result<(), HoldError> {
    setrlimit(Resource::RLIMIT_CORE, CORE_LIMIT, CORE_LIMIT).map_err(step("forbid dumps"))?;
    setgroups(&[]).map_err(step("leave all groups"))?;
    empty_bounding_set().map_err(step("empty the bounding set"))?;
    let none = CapabilitySet::empty();
    // The ambient set follows the others (capabilities(7)).
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .map_err(step("drop the capabilities"))?;
    prctl::set_no_new_privs().map_err(step("set no_new_privs"))
}

/// Up to the first that the running kernel does not know.
fn empty_bounding_set() -> Result<(), Errno> {
    for number in 0..u64::BITS {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Err(Errno::INVAL) => return Ok(()),
            other => other?,
        }
    }
    Ok(())
}

/// Says that all went well, closes what is open, and leaves itself nothing to do but wait.
fn seal() -> Result<Infallible, HoldError> {
    let program = filter::program().map_err(HoldError::Filter)?;
    write!(io::stdout(), "{READY}").and_then(|()| io::stdout().flush()).map_err(step("tell the shim"))?;
    for descriptor in [STDIN, STDERR] {
        close(descriptor).map_err(step("close the descriptors"))?;
    }
    seccompiler::apply_filter(&program).map_err(HoldError::Filter)?;
    // Behind the filter nothing can be told any more.
    let _ = close(STDOUT);
    loop {
        // Comes back after a signal that has a handler.
        let _ = SigSet::empty().suspend();
    }
}
