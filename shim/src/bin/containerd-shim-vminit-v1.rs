//! The containerd shim: reads what it is to do and composes the rooms that do it. Never does any of it itself.

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;
use vminit_shim::cli::{self, Action, Call, DeleteError, Serving, Settings};
use vminit_shim::config::{self, Config, ConfigError};
use vminit_shim::events::Publisher;
use vminit_shim::service::TaskService;
use vminit_shim::state::{self, StateError, Wiring};
use vminit_shim::task::{Host, Tasks};
use vminit_shim::{holder, net, rootfs, serve};

/// What the last events have to reach containerd in: with the server's drain it stays below the 3 s that containerd
/// gives Shutdown.
const FLUSH: Duration = Duration::from_millis(500);

/// A shim that has had no task for so long is not needed. containerd creates one right after `start`.
const IDLE: Duration = Duration::from_secs(10);

/// Errors go to standard error: containerd shows those of `start` and `delete` to its caller, and logs the others.
fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not `eprintln`, which panics when nobody reads.
            let _ = writeln!(io::stderr(), "{}: cannot {error}", cli::RUNTIME);
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let action = Action::parse(env::args_os().skip(1))?;
    if matches!(action, Action::Start(_) | Action::Hold(_)) {
        cli::close_strangers();
    }
    let answer = match action {
        Action::Start(call) => runtime()?.block_on(cli::start(call, settings()?))?,
        Action::Delete(call) => runtime()?.block_on(delete(&call))?,
        Action::Serve(serving) => {
            // While there is one thread: a mount namespace is that of a thread, and those to come inherit it.
            rootfs::own_namespace()?;
            runtime()?.block_on(serve(serving)).map(|()| Vec::new())?
        }
        // Without a runtime: a holder has no descriptors.
        Action::Hold(args) => match holder::hold(&args)? {},
        Action::Info => cli::info(),
        Action::Version => cli::version(&env::args().next().unwrap_or_default()).into_bytes(),
    };
    io::stdout().write_all(&answer)?;
    Ok(io::stdout().flush()?)
}

/// On the main thread, because the parent-death signal of children follows the thread that started them (prctl(2)).
fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

fn settings() -> Result<Settings, ConfigError> {
    let config = Config::read(Path::new(config::FILE))?;
    Ok(Settings { json_reply: config.containerd.json_reply })
}

async fn serve(serving: Serving) -> Result<(), Box<dyn Error>> {
    let listener = cli::inherited_listener()?;
    let Serving { call, socket, ttrpc_address } = serving;
    cli::init_log(call.debug);
    let publisher = Publisher::start(&ttrpc_address, &call.namespace);
    let stop = CancellationToken::new();
    let host = Host {
        config: Config::read(Path::new(config::FILE))?,
        address: call.address,
        namespace: call.namespace,
        publisher: publisher.clone(),
    };
    let tasks = Arc::new(Tasks::new(host));
    let service = Arc::new(TaskService::new(tasks.clone(), stop.clone()));
    let idle = stop.clone();
    let idle = tokio::spawn(async move {
        tasks.idle(IDLE).await;
        idle.cancel();
    });
    let ended = serve::serve(listener, &socket, service, stop).await?;
    idle.abort();
    tracing::info!(id = call.id, ?ended, "the shim ends");
    Ok(publisher.flush(FLUSH).await?)
}

/// Cleans up behind a shim that is gone, and behind one that is not: it is ended first.
async fn delete(call: &Call) -> Result<Vec<u8>, DeleteError<StateError>> {
    let dir = state::dir(&call.address, &call.namespace, &call.id);
    let unwire = async |namespace: &Path, wiring: &Wiring| {
        if let Err(error) = net::unwire(namespace, wiring).await {
            // containerd logs it.
            let _ = writeln!(io::stderr(), "cannot {error}");
        }
    };
    cli::delete(call, state::cleanup(&dir, unwire)).await
}
