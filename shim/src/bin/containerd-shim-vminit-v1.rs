//! The containerd shim: reads what it is to do and composes the rooms that do it. Never does any of it itself.

use std::convert::Infallible;
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use std::{env, process};

use async_trait::async_trait;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;
use ttrpc::asynchronous::TtrpcContext;
use ttrpc::{get_status, Code};
use vminit_shim::api::containerd::api;
use vminit_shim::api::containerd::shim_async::Task;
use vminit_shim::cli::{self, Action, Deleted, Serving, Settings};
use vminit_shim::events::Publisher;
use vminit_shim::holder;
use vminit_shim::serve;

/// What the last events have to reach containerd in: with the server's drain it stays below the 3 s that containerd
/// gives Shutdown.
const FLUSH: Duration = Duration::from_millis(500);

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
        Action::Start(call) => runtime()?.block_on(cli::start(call, Settings::default()))?,
        Action::Delete(call) => runtime()?.block_on(cli::delete(&call, nothing_to_clean()))?,
        Action::Serve(serving) => runtime()?.block_on(serve(serving)).map(|()| Vec::new())?,
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

async fn serve(serving: Serving) -> Result<(), Box<dyn Error>> {
    let listener = cli::inherited_listener()?;
    cli::init_log(serving.call.debug);
    let publisher = Publisher::start(&serving.ttrpc_address, &serving.call.namespace);
    let stop = CancellationToken::new();
    let task = Arc::new(NoTasks { stop: stop.clone() });
    let ended = serve::serve(listener, &serving.socket, task, stop).await?;
    tracing::info!(id = serving.call.id, ?ended, "the shim ends");
    Ok(publisher.flush(FLUSH).await?)
}

/// What a `delete` without any task finds.
async fn nothing_to_clean() -> Result<Deleted, Infallible> {
    Ok(Deleted { pid: 0, exit_status: 137, exited_at: SystemTime::now() })
}

/// A shim without a VM: it has no task, and says so.
struct NoTasks {
    stop: CancellationToken,
}

#[async_trait]
impl Task for NoTasks {
    async fn state(&self, _: &TtrpcContext, req: api::StateRequest) -> ttrpc::Result<api::StateResponse> {
        let status = get_status(Code::NOT_FOUND, format!("task {} is not found", req.id));
        Err(ttrpc::Error::RpcStatus(status))
    }

    async fn connect(&self, _: &TtrpcContext, _: api::ConnectRequest) -> ttrpc::Result<api::ConnectResponse> {
        let version = env!("CARGO_PKG_VERSION").to_string();
        Ok(api::ConnectResponse { shim_pid: process::id(), version, ..Default::default() })
    }

    async fn shutdown(&self, _: &TtrpcContext, _: api::ShutdownRequest) -> ttrpc::Result<api::Empty> {
        self.stop.cancel();
        Ok(api::Empty::new())
    }
}
