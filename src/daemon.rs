//! The daemon: puts the rooms together, serves, and stops in order. It decides nothing that a room could.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::blocking::Disks;
use crate::boot;
use crate::config::Config;
use crate::events::Exchange;
use crate::flag::raised;
use crate::guest::booting::Booting;
use crate::guest::clock::Clock;
use crate::guest::freeze::Freezer;
use crate::guest::hotplug::Hotplug;
use crate::io::{RelayTasks, StreamTable};
use crate::logging;
use crate::net::Network;
use crate::profile::{DeleteEvent, Mode};
use crate::reaper::Reaper;
use crate::runc::Runtime;
use crate::services::{self, Domain};
use crate::shutdown::{self, Cause, Preparer, Reasons, Running};
use crate::supervisor;
use crate::sys::rlimit::{self, Limit};
use crate::sys::signal::Signals;
use crate::task::{Bundles, Parts, Tasks};
use crate::tracked::Tracked;
use crate::wire::{self, Listener, Router};

/// Why the daemon cannot serve: what it was about to do, and what the kernel said.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {source}")]
pub struct CannotServe {
    step: &'static str,
    source: io::Error,
}

/// For what goes wrong in this step.
pub fn cannot(step: &'static str) -> impl Fn(io::Error) -> CannotServe {
    move |source| CannotServe { step, source }
}

/// Serves until there is a reason to stop, then stops in order. `file_limit` is what children start with; the rest of `boot`
/// begins once it serves, if this is PID 1.
pub async fn serve(
    config: &Config,
    file_limit: Limit,
    boot: Option<boot::Begun>,
) -> Result<Cause, CannotServe> {
    if config.profile.mode == Mode::Dial {
        tracing::warn!(host = config.profile.name, "dialling the host is not built: listening");
    }
    let whole_machine = boot.is_some();
    let booting = boot.as_ref().map_or_else(Booting::none, boot::Begun::booting);
    let signals = Signals::of(&shutdown::SIGNALS).map_err(cannot("read signals"))?;
    let (reaper, fatal) = Reaper::start().map_err(cannot("start the reaper"))?;
    let streams = StreamTable::new(config.stream_settings());
    // The stream port first: it must be up before an RPC can name a stream.
    let stream_listener = Listener::bind(&config.stream).map_err(cannot("bind the stream port"))?;
    let rpc_listener = Listener::bind(&config.rpc).map_err(cannot("bind the RPC port"))?;
    logging::milestone("vsock-listen");

    let no_pivot = boot.as_ref().is_some_and(|boot| boot.no_pivot);
    let runtime = Runtime::new(reaper.clone(), config.runc_settings(file_limit, no_pivot));
    let parts = parts(config, runtime, streams.clone())?;
    let (exchange, relays, disks) = (parts.exchange.clone(), parts.relays.clone(), parts.disks.clone());
    let tasks = Tasks::new(parts);
    let agent = config.supervisor_settings(file_limit);
    let supervisor = supervisor::start(agent, reaper, disks, tasks.creates(), booted(booting.clone()))
        .map_err(cannot("watch for the agent"))?;
    let clock = Clock::default();
    let freezer = Freezer::new(config.freeze_settings(whole_machine), clock.clone());
    let (asked, request) = watch::channel(false);
    let (prepare, prepares_asked) = mpsc::channel(shutdown::PREPARES);
    let router = Arc::new(services::router(&Domain {
        tasks: tasks.clone(),
        exchange: exchange.clone(),
        streams: streams.clone(),
        freezer: freezer.clone(),
        hotplug: hotplug(whole_machine),
        network: network(whole_machine),
        stop: Arc::new(asked),
        prepare,
        version: config.profile.version.clone(),
        booting: booting.clone(),
        stream_ids: config.profile.stream_ids,
    }));
    let (stop, connections, prepares) = (watch::Sender::new(false), Tracked::default(), Tracked::default());
    accept_streams(stream_listener, streams, &connections, &stop);
    accept_rpc(rpc_listener, router.clone(), config.wire_settings(), &connections, &stop);
    logging::milestone("serve");
    if let Some(boot) = boot {
        boot.finish_in_background();
        connections.spawn(keep_clock(clock, booting.clone(), stop.subscribe()));
    }

    let prepare = Preparer {
        freezer: freezer.clone(),
        tasks: tasks.clone(),
        bundles: config.bundles_dir(),
        asked: prepares_asked,
        runs: prepares.clone(),
        begun: router.begun(),
        power_off_after: config.profile.poweroff_after_prepare,
        whole_machine,
    };
    let reasons = Reasons { signals, request, fatal, prepare, power_button: whole_machine };
    let cause = shutdown::cause(reasons).await;
    tracing::info!(%cause, "stopping");
    let running =
        Running { booting, freezer, tasks, supervisor, relays, exchange, connections, prepares, stop };
    shutdown::stop(running).await;
    Ok(cause)
}

fn parts(config: &Config, runtime: Runtime, streams: StreamTable) -> Result<Parts, CannotServe> {
    let own_limit = rlimit::nofile().map_err(cannot("read RLIMIT_NOFILE"))?;
    let disks = Disks::new();
    Ok(Parts {
        runtime,
        exchange: Exchange::new(config.bounds.event_replay),
        streams,
        relays: RelayTasks::new(config.relay_settings()),
        bundles: Bundles::in_folder(config.bundles_dir(), disks.clone()),
        disks,
        bounds: config.task_bounds(own_limit),
        spec: config.profile.spec,
        publish_delete: config.profile.delete_event == DeleteEvent::Guest,
    })
}

/// An ordinary process has neither processors nor memory to switch.
fn hotplug(whole_machine: bool) -> Hotplug {
    Hotplug::new(Path::new(if whole_machine { "/sys" } else { "/dev/null" }))
}

/// An ordinary process changes no network: it is not its own.
fn network(whole_machine: bool) -> Network {
    Network::new(whole_machine.then_some(Path::new("/etc")))
}

/// Waits for the end of the boot, or for that of the guest.
async fn booted(booting: Booting) {
    booting.over().await;
}

/// The boot may set it; and a look at the RTC would delay the first answers.
async fn keep_clock(clock: Clock, booting: Booting, stopped: watch::Receiver<bool>) {
    booted(booting).await;
    clock.keep(stopped).await;
}

fn accept_streams(
    listener: Listener,
    streams: StreamTable,
    connections: &Tracked,
    stop: &watch::Sender<bool>,
) {
    let (tracked, stopped) = (connections.clone(), stop.subscribe());
    connections.spawn(wire::accept_loop(listener, stop.subscribe(), move |socket| {
        let (streams, mut stopped) = (streams.clone(), stopped.clone());
        tracked.spawn(async move {
            tokio::select! {
                () = streams.admit(socket) => {}
                () = raised(&mut stopped) => {}
            }
        });
    }));
}

fn accept_rpc(
    listener: Listener,
    router: Arc<Router>,
    settings: wire::Settings,
    connections: &Tracked,
    stop: &watch::Sender<bool>,
) {
    let (tracked, stopped) = (connections.clone(), stop.subscribe());
    let mut first = true;
    connections.spawn(wire::accept_loop(listener, stop.subscribe(), move |socket| {
        if std::mem::take(&mut first) {
            logging::milestone("first-accept");
        }
        tracked.spawn(wire::serve(socket, router.clone(), settings, stopped.clone()));
    }));
}
