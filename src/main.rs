//! vminitd, PID 1 of a container microVM. This file is its beginning and its end: it reads the configuration, begins to
//! bring the VM up, has the daemon serve, and ends the machine. Everything else has a room of its own;
//! `docs/ARCHITECTURE.md` is the map.

mod blocking;
mod boot;
mod cgroup;
mod config;
mod daemon;
mod events;
mod flag;
mod guest;
mod io;
mod lock;
mod logging;
mod net;
mod profile;
mod reaper;
mod rootfs;
mod runc;
mod services;
mod shutdown;
mod supervisor;
mod sys;
mod task;
mod tracked;
mod wire;

use std::any::Any;
use std::io::Write as _;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::process::ExitCode;
use std::time::Duration;

use config::{Config, Start};
use daemon::{cannot, CannotServe};
use shutdown::Cause;
use sys::rlimit::{self, Limit};

/// An idle thread for blocking work is given up soon: it costs memory.
const BLOCKING_IDLE: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let pid1 = std::process::id() == 1;
    let entered = sys::clock::uptime();
    // First of all, and before there is a second thread: nothing may end PID 1.
    let blocked = sys::signal::block_all();
    if pid1 {
        logging::milestone("pid1-entry");
        // The boot tries again, and says what is wrong.
        let _ = boot::mount_proc();
    }
    let (config, problems) = match Config::read(std::env::args_os().skip(1), pid1) {
        Start::Print(text) => return print(&text),
        Start::Usage(text) => return usage(&text),
        Start::Run(config, problems) => (config, problems),
    };
    logging::init(config.debug, config.log);
    if let Err(error) = blocked {
        tracing::error!(%error, "cannot block signals");
    }
    for problem in problems {
        tracing::warn!(%problem, "setting ignored");
    }
    if pid1 {
        run_vm(&config, entered)
    }
    let ended = run_process(&config);
    logging::flush();
    ended
}

/// To stdout, for whoever asked; that nobody reads it is no concern of ours.
fn print(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

#[expect(clippy::print_stderr, reason = "there is no log yet, and this is for a person")]
fn usage(text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::from(2)
}

/// An ordinary process: no boot, no power-off.
fn run_process(config: &Config) -> ExitCode {
    let started = sys::wait::become_subreaper()
        .and_then(|()| rlimit::raise_nofile(config.bounds.nofile))
        .map_err(cannot("prepare to have children"))
        .and_then(|limit| run(config, limit, None));
    match started {
        Ok(cause) => {
            tracing::info!(%cause, "stopped");
            ExitCode::from(u8::from(matches!(cause, Cause::Fatal(_))))
        }
        Err(error) => {
            tracing::error!("cannot serve: {error}");
            ExitCode::FAILURE
        }
    }
}

/// PID 1: whatever happens, it ends with the machine, and has said why.
fn run_vm(config: &Config, entered: Duration) -> ! {
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let boot = boot::begin(config, entered);
        logging::milestone("system-init");
        let limit =
            boot.nofile_at_start.map_or_else(rlimit::nofile, Ok).map_err(cannot("read RLIMIT_NOFILE"))?;
        run(config, limit, Some(boot))
    }));
    let cause = match ran {
        Ok(Ok(cause)) => cause,
        Ok(Err(error)) => Cause::Fatal(format!("cannot serve: {error}")),
        Err(panic) => Cause::Fatal(format!("panicked: {}", message(&*panic))),
    };
    if matches!(cause, Cause::Fatal(_)) {
        // Now, as what follows takes its time where a disk does not answer.
        tracing::error!(%cause, "cannot go on");
    }
    shutdown::release_machine();
    let ending = config.power.ending(&cause);
    tracing::info!(%cause, "{}", ending.name());
    loop {
        logging::flush();
        let error = shutdown::end_machine(ending);
        // PID 1 itself must not end.
        tracing::error!(%error, "cannot {}", ending.name());
        std::thread::park();
    }
}

/// What a panic said, as far as it is text.
fn message(panic: &(dyn Any + Send)) -> &str {
    let owned = || panic.downcast_ref::<String>().map(String::as_str);
    panic.downcast_ref::<&str>().copied().or_else(owned).unwrap_or("without a word")
}

/// Serves until there is a reason to stop, then stops in order.
fn run(config: &Config, file_limit: Limit, boot: Option<boot::Begun>) -> Result<Cause, CannotServe> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(blocking::THREADS)
        .thread_keep_alive(BLOCKING_IDLE)
        .build()
        .map_err(cannot("start the runtime"))?;
    let serving = AssertUnwindSafe(|| runtime.block_on(daemon::serve(config, file_limit, boot)));
    let served = catch_unwind(serving);
    // Something that blocks for ever on a dead disk must not hold up the end, be it that of a panic.
    runtime.shutdown_background();
    served.unwrap_or_else(|panic| resume_unwind(panic))
}
