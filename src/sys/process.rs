//! Starting a program in a defined state: fork, then exec; and what it is given. Only `reaper/` forks.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::rlimit::Limit;
use super::signal::Signal;
use super::wait::Pid;

/// Where the programs of an image are looked for. The kernel starts init without a PATH; children get this one.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program to start, with everything prepared that must not be done between fork and exec.
#[derive(Debug)]
pub struct Program {
    argv: Vec<CString>,
    env: Vec<CString>,
    stdio: [OwnedFd; 3],
    limit: Limit,
}

impl Program {
    /// `argv[0]` is the path of the binary; it is not looked up in PATH. `InvalidInput` if an argument has a NUL in it.
    pub fn new(argv: &[OsString], stdio: [OwnedFd; 3], limit: Limit) -> io::Result<Program> {
        let argv = argv.iter().map(|arg| CString::new(arg.clone().into_vec())).collect::<Result<_, _>>()?;
        let env = vec![CString::new(format!("PATH={PATH}"))?];
        Ok(Program { argv, env, stdio, limit })
    }

    /// Adds a variable to its environment. `InvalidInput` if there is a NUL in it.
    pub fn env(&mut self, name: &str, value: &OsStr) -> io::Result<()> {
        let variable = [name.as_bytes(), b"=", value.as_bytes()].concat();
        self.env.push(CString::new(variable)?);
        Ok(())
    }

    /// Forks. The child gets an empty signal mask, default dispositions, its own session, umask 022, cwd `/` and no
    /// descriptor but its three; then it execs. Returns at once, without waiting for the exec: if that fails, the
    /// child exits with 127 and the returned [`ExecReport`] holds the reason.
    pub fn fork(&self) -> io::Result<(Pid, ExecReport)> {
        let (report, errno_fd) =
            nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC | nix::fcntl::OFlag::O_NONBLOCK)?;
        let argv = pointers(&self.argv);
        let env = pointers(&self.env);
        // SAFETY: the child calls nothing but async-signal-safe functions on memory prepared above, then execs or exits.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            // SAFETY: this is the child; the pointers are into vectors that outlive it.
            0 => unsafe { self.exec(&argv, &env, errno_fd.as_raw_fd()) },
            pid => {
                Ok((Pid::new(pid).expect("fork returns a positive pid in the parent"), ExecReport(report)))
            }
        }
    }

    /// # Safety
    ///
    /// Only in a freshly forked child; `argv` and `env` end with a null pointer.
    unsafe fn exec(&self, argv: &[*const libc::c_char], env: &[*const libc::c_char], errno_fd: RawFd) -> ! {
        // SAFETY: every call is async-signal-safe (signal-safety(7)) or a bare system call, on valid arguments.
        unsafe {
            if self.enter_initial_state() {
                libc::execve(argv[0], argv.as_ptr(), env.as_ptr());
            }
            let errno = *libc::__errno_location();
            libc::write(errno_fd, (&raw const errno).cast(), size_of::<i32>());
            libc::_exit(127)
        }
    }

    /// # Safety
    ///
    /// Only in a freshly forked child.
    unsafe fn enter_initial_state(&self) -> bool {
        // SAFETY: as in `exec`; the structs are plain data for which all zeroes is a value.
        unsafe {
            let mut empty: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut empty);
            let mut default: libc::sigaction = std::mem::zeroed();
            default.sa_sigaction = libc::SIG_DFL;
            for signal in 1..=Signal::LAST.as_raw() {
                // KILL, STOP and the C library's own signals refuse: they are at their default anyway.
                libc::sigaction(signal, &default, std::ptr::null_mut());
            }
            libc::sigprocmask(libc::SIG_SETMASK, &empty, std::ptr::null_mut());
            libc::setsid();
            libc::umask(0o022);
            let limit = libc::rlimit { rlim_cur: self.limit.soft, rlim_max: self.limit.hard };
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
            // Every descriptor of ours is close-on-exec; this covers those somebody else left open before us.
            libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
            self.stdio.iter().zip(0..).all(|(fd, n)| libc::dup2(fd.as_raw_fd(), n) == n)
                && libc::chdir(c"/".as_ptr()) == 0
        }
    }
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Why an exec failed, if it did: to be asked once the child has ended.
#[derive(Debug)]
pub struct ExecReport(OwnedFd);

impl ExecReport {
    /// The error of the child's exec, or `None` if the program was started. Never blocks.
    pub fn failure(&self) -> Option<io::Error> {
        let mut errno = [0; size_of::<i32>()];
        match nix::unistd::read(&self.0, &mut errno) {
            Ok(n) if n == errno.len() => Some(io::Error::from_raw_os_error(i32::from_ne_bytes(errno))),
            _ => None,
        }
    }
}

/// `/dev/null`, open for reading and writing.
pub fn dev_null() -> io::Result<OwnedFd> {
    Ok(std::fs::File::options().read(true).write(true).open("/dev/null")?.into())
}

/// A pipe: its reading end, its writing end; both close-on-exec and blocking.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?)
}

/// Lets a pipe hold `bytes`.
///
/// # Errors
/// `EPERM` above /proc/sys/fs/pipe-max-size (pipe(7)); the pipe then stays as it is.
pub fn widen(pipe: &OwnedFd, bytes: usize) -> io::Result<()> {
    let bytes = i32::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
    nix::fcntl::fcntl(pipe, nix::fcntl::FcntlArg::F_SETPIPE_SZ(bytes))?;
    Ok(())
}

/// Reads what a descriptor that does not block has by now; 0 at its end.
pub fn read_now(fd: BorrowedFd<'_>, block: &mut [u8]) -> io::Result<usize> {
    Ok(nix::unistd::read(fd, block)?)
}
