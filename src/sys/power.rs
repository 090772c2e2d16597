//! Ends of the machine, and what goes before them: the key press that asks for one, the end of all other processes.

use std::io;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::reboot::{reboot, set_cad_enabled, RebootMode};
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use super::wait;

/// The pause between two looks at whether processes that were killed have gone: it is a matter of milliseconds.
const LOOK: Duration = Duration::from_millis(5);

/// Writes what is cached to the disks. Blocks as long as they take.
pub fn sync() {
    nix::unistd::sync();
}

/// Switches the machine off at once: what was not written back is lost.
///
/// It returns only if the kernel refused, which it does to whoever lacks CAP_SYS_BOOT.
pub fn off() -> io::Error {
    end(RebootMode::RB_POWER_OFF)
}

/// Starts the machine anew at once, otherwise as [`off`].
pub fn restart() -> io::Error {
    end(RebootMode::RB_AUTOBOOT)
}

fn end(mode: RebootMode) -> io::Error {
    match reboot(mode) {
        Ok(never) => match never {},
        Err(errno) => errno.into(),
    }
}

/// Makes Ctrl-Alt-Del send SIGINT to PID 1 in place of a reboot without sync (reboot(2), CAD_OFF).
pub fn ctrl_alt_del_signals_init() -> io::Result<()> {
    Ok(set_cad_enabled(false)?)
}

/// Kills every process of the machine but this one, and waits until they have gone, no longer than `limit`. Says
/// whether they have. Blocks.
///
/// All of them are descendants of PID 1, so they have gone once it has no child left. That needs somebody who collects
/// them meanwhile.
///
/// # Errors
/// `EPERM` in any process but PID 1, which has no business with those of the machine.
pub fn kill_all_others(limit: Duration) -> io::Result<bool> {
    if std::process::id() != 1 {
        return Err(Errno::EPERM.into());
    }
    match kill(Pid::from_raw(-1), Signal::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(errno) => return Err(errno.into()),
    }
    let until = Instant::now() + limit;
    while wait::any_child() {
        if Instant::now() >= until {
            return Ok(false);
        }
        std::thread::sleep(LOOK);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pid_1_may_kill_everybody() {
        let refused = kill_all_others(Duration::ZERO).expect_err("this is no PID 1");
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
    }
}
