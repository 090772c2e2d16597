//! vminitd, PID 1 of a container microVM. This file composes: it reads the configuration, brings the VM up, serves,
//! and stops in order. Everything else has a room of its own; `docs/ARCHITECTURE.md` is the map.

mod blocking;
mod boot;
mod cgroup;
mod config;
mod events;
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
mod sys;
mod task;
mod tracked;
mod wire;

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;

use config::{Config, Start};
use profile::{DeleteEvent, Mode};
use shutdown::{Cause, Running};
use sys::rlimit::{self, Limit};
use sys::signal::Signals;
use task::{Parts, Tasks};
use tracked::Tracked;
use wire::Listener;

/// An idle thread for blocking work is given up soon: it costs memory.
const BLOCKING_IDLE: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let pid1 = std::process::id() == 1;
    // First of all, and before there is a second thread: nothing may end PID 1.
    let blocked = sys::signal::block_all();
    if pid1 {
        logging::milestone("pid1-entry");
    }
    let (config, problems) = match Config::from_args(std::env::args_os().skip(1), pid1) {
        Start::Version => return version(),
        Start::Usage(text) => return usage(&text),
        Start::Run(config, problems) => (config, problems),
    };
    logging::init(config.debug);
    if let Err(error) = blocked {
        tracing::error!(%error, "cannot block signals");
    }
    for problem in problems {
        tracing::warn!(%problem, "setting ignored");
    }
    if pid1 {
        run_vm(&config)
    } else {
        run_process(&config)
    }
}

#[expect(clippy::print_stdout, reason = "this is what the flag asks for")]
fn version() -> ExitCode {
    println!("vminitd {}", profile::BUILD_VERSION);
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
        .and_then(|()| raise_nofile(config.bounds.nofile))
        .context("prepare to have children")
        .and_then(|limit| run(config, limit, false));
    match started {
        Ok(cause) => {
            tracing::info!(%cause, "stopped");
            ExitCode::from(u8::from(matches!(cause, Cause::Fatal(_))))
        }
        Err(error) => {
            tracing::error!("cannot serve: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Lets this process open as many files as its hard limit allows, but no more than PID 1 may. Returns the limit that
/// children start with.
fn raise_nofile(most: u64) -> std::io::Result<Limit> {
    let Limit { soft, hard } = rlimit::nofile()?;
    rlimit::set_nofile(Limit { soft: soft.max(hard.min(most)), hard })
}

/// PID 1: whatever happens, it ends with the machine switched off, and has said why.
fn run_vm(config: &Config) -> ! {
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let report = boot::run(config);
        logging::milestone("system-init");
        let limit = report.nofile_at_start.map_or_else(rlimit::nofile, Ok).context("read RLIMIT_NOFILE")?;
        run(config, limit, report.no_pivot)
    }));
    match ran {
        Ok(Ok(cause)) => tracing::info!(%cause, "power off"),
        Ok(Err(error)) => tracing::error!("power off: cannot serve: {error:#}"),
        Err(_) => tracing::error!("power off: panicked"),
    }
    shutdown::release_disks(config.bundles_dir());
    loop {
        let error = sys::power::off();
        tracing::error!(%error, "cannot power off");
        std::thread::park();
    }
}

/// Serves until there is a reason to stop, then stops in order.
fn run(config: &Config, file_limit: Limit, no_pivot: bool) -> anyhow::Result<Cause> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(blocking::THREADS)
        .thread_keep_alive(BLOCKING_IDLE)
        .build()
        .context("start the runtime")?;
    let cause = runtime.block_on(serve(config, file_limit, no_pivot));
    // Something that blocks for ever on a dead disk must not hold up the end.
    runtime.shutdown_background();
    cause
}

async fn serve(config: &Config, file_limit: Limit, no_pivot: bool) -> anyhow::Result<Cause> {
    if config.profile.mode == Mode::Dial {
        tracing::warn!(host = config.profile.name, "dialling the host is not built: listening");
    }
    let signals = Signals::of(&shutdown::SIGNALS).context("read signals")?;
    let own_limit = rlimit::nofile().context("read RLIMIT_NOFILE")?;
    let (reaper, fatal) = reaper::Reaper::start().context("start the reaper")?;
    let streams = io::StreamTable::new(config.stream_settings());
    // The stream port first: it must be up before an RPC can name a stream.
    let stream_listener = Listener::bind(&config.stream).context("bind the stream port")?;
    let rpc_listener = Listener::bind(&config.rpc).context("bind the RPC port")?;
    logging::milestone("vsock-listen");

    let exchange = events::Exchange::new(config.bounds.event_replay);
    let relays = io::RelayTasks::new(config.relay_settings());
    let disks = blocking::Disks::new();
    let tasks = Tasks::new(Parts {
        runtime: runc::Runtime::new(reaper, config.runc_settings(file_limit, no_pivot)),
        exchange: exchange.clone(),
        streams: streams.clone(),
        relays: relays.clone(),
        bundles: task::Bundles::in_folder(config.bundles_dir(), disks.clone()),
        disks,
        bounds: config.task_bounds(own_limit),
        spec: config.profile.spec,
        publish_delete: config.profile.delete_event == DeleteEvent::Guest,
    });
    let (asked, request) = watch::channel(false);
    let domain = services::Domain {
        tasks: tasks.clone(),
        exchange: exchange.clone(),
        streams: streams.clone(),
        stop: Arc::new(asked),
        version: config.profile.version,
        stream_ids: config.profile.stream_ids,
    };
    let stop = watch::Sender::new(false);
    let connections = Tracked::default();
    accept_streams(stream_listener, streams, &connections, &stop);
    accept_rpc(rpc_listener, Arc::new(services::router(&domain)), &connections, &stop);
    logging::milestone("serve");

    let cause = shutdown::cause(&signals, request, fatal).await;
    tracing::info!(%cause, "stopping");
    shutdown::stop(Running { tasks, relays, exchange, connections, stop }).await;
    Ok(cause)
}

fn accept_streams(
    listener: Listener,
    streams: io::StreamTable,
    connections: &Tracked,
    stop: &watch::Sender<bool>,
) {
    let (tracked, stopped) = (connections.clone(), stop.subscribe());
    connections.spawn(wire::accept_loop(listener, stop.subscribe(), move |socket| {
        let (streams, mut stopped) = (streams.clone(), stopped.clone());
        tracked.spawn(async move {
            tokio::select! {
                () = streams.admit(socket) => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
        });
    }));
}

fn accept_rpc(
    listener: Listener,
    router: Arc<wire::Router>,
    connections: &Tracked,
    stop: &watch::Sender<bool>,
) {
    let (tracked, stopped) = (connections.clone(), stop.subscribe());
    let mut first = true;
    connections.spawn(wire::accept_loop(listener, stop.subscribe(), move |socket| {
        if std::mem::take(&mut first) {
            logging::milestone("first-accept");
        }
        tracked.spawn(wire::serve(socket, router.clone(), stopped.clone()));
    }));
}
