//! Waiting for children, as `waitid(2)` and `pidfd_open(2)` offer it. Only `reaper/` waits.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::signal::Signal;

/// A process of this machine, by its kernel number. The number says nothing once the process has been reaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pid(i32);

impl Pid {
    /// `None` for zero and negative numbers, which name process groups.
    pub fn new(number: i32) -> Option<Pid> {
        (number > 0).then_some(Pid(number))
    }

    /// As it goes over the wire.
    pub fn as_u32(self) -> u32 {
        self.0.unsigned_abs()
    }
}

impl std::fmt::Display for Pid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Code(u8),
    /// Killed by this signal, with or without a core dump.
    Signal(u8),
}

impl Exit {
    /// The status as containerd reports it: the exit code, or 128 and the signal's number.
    pub fn status(self) -> u32 {
        match self {
            Exit::Code(code) => code.into(),
            Exit::Signal(signal) => 128 + u32::from(signal),
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "code {code}"),
            Exit::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// Blocks until some child has ended and names it. The child stays a zombie, so its number stays its own.
///
/// `ECHILD` when there is no child at all.
pub fn peek_any() -> io::Result<Pid> {
    // __WALL: a child made by a `clone` without SIGCHLD counts too (waitid(2)).
    let info = waitid(libc::P_ALL, 0, libc::WEXITED | libc::WNOWAIT | libc::__WALL)?;
    info.map(|(pid, _)| pid).ok_or_else(|| io::ErrorKind::Interrupted.into())
}

/// Collects the end of `pid`, a child that [`peek_any`] named. Does not block; `None` if there is nothing to collect.
pub fn reap(pid: Pid) -> io::Result<Option<Exit>> {
    let ended = waitid(libc::P_PID, pid.0, libc::WEXITED | libc::WNOHANG | libc::__WALL)?;
    Ok(ended.map(|(_, exit)| exit))
}

/// Whether `pid` is a child of this process that nobody has collected yet, running or ended.
pub fn is_child(pid: Pid) -> bool {
    waitid(libc::P_PID, pid.0, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL).is_ok()
}

/// Whether there is any child, running or ended.
pub fn any_child() -> bool {
    waitid(libc::P_ALL, 0, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL).is_ok()
}

fn waitid(kind: libc::idtype_t, id: i32, flags: libc::c_int) -> io::Result<Option<(Pid, Exit)>> {
    // SAFETY: siginfo_t is plain data for which all zeroes is a value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is a siginfo_t that outlives the call.
    if unsafe { libc::waitid(kind, id as libc::id_t, &mut info, flags) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: after a successful waitid the kernel has filled the SIGCHLD fields, or left them zero (WNOHANG).
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    Ok(Pid::new(pid).map(|pid| (pid, decode(info.si_code, status))))
}

/// `si_status` is an exit code for CLD_EXITED and a signal for CLD_KILLED and CLD_DUMPED (sigaction(2)).
fn decode(code: libc::c_int, status: libc::c_int) -> Exit {
    // The kernel passes eight bits of an exit code and seven of a signal.
    match code {
        libc::CLD_EXITED => Exit::Code(status as u8),
        _ => Exit::Signal(status as u8),
    }
}

/// A descriptor that names `pid` for good. Race-free only while `pid` cannot have been reaped.
pub fn pidfd_open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.0, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this descriptor, close-on-exec, to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Sends `signal` to the process that `pidfd` names; `ESRCH` once it has been reaped.
pub fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: Signal) -> io::Result<()> {
    pidfd_send(pidfd, signal.as_raw())
}

/// Whether the process has not been reaped yet; a zombie is there.
pub fn pidfd_is_there(pidfd: BorrowedFd<'_>) -> bool {
    // No signal is sent, but the process is looked for (kill(2), signal 0).
    pidfd_send(pidfd, 0).is_ok()
}

fn pidfd_send(pidfd: BorrowedFd<'_>, signal: libc::c_int) -> io::Result<()> {
    let (no_info, no_flags) = (std::ptr::null::<libc::siginfo_t>(), 0);
    // SAFETY: a null siginfo is allowed: the kernel then fills one in as kill(2) does.
    let sent =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, no_flags) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Kills the process `pid`, which must not have been reaped, and its process group if it leads one.
pub fn kill_group(pid: Pid) {
    // ESRCH: it leads none, or has ended.
    // SAFETY: no pointers are passed.
    unsafe {
        libc::kill(-pid.0, libc::SIGKILL);
        libc::kill(pid.0, libc::SIGKILL);
    }
}

/// Makes orphans below this process its children instead of those of PID 1 of the machine.
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: this option takes integers only.
    if unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
