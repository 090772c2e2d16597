//! Ends of the machine, and the key press that asks for one.

use std::io;

use nix::sys::reboot::{reboot, set_cad_enabled, RebootMode};

/// Writes what is cached to the disks. Blocks as long as they take.
pub fn sync() {
    nix::unistd::sync();
}

/// Switches the machine off at once: what was not written back is lost.
///
/// It returns only if the kernel refused, which it does to whoever lacks CAP_SYS_BOOT.
pub fn off() -> io::Error {
    match reboot(RebootMode::RB_POWER_OFF) {
        Ok(never) => match never {},
        Err(errno) => errno.into(),
    }
}

/// Makes Ctrl-Alt-Del send SIGINT to PID 1 in place of a reboot without sync (reboot(2), CAD_OFF).
pub fn ctrl_alt_del_signals_init() -> io::Result<()> {
    Ok(set_cad_enabled(false)?)
}
