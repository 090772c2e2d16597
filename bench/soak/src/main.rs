//! `vminitd-soak LENGTH [--seed N]`: runs the daemon that `VMINITD_BIN` names on the machine's runc, as root, under mixed
//! load for so long, and ends with status 0 only if everything was as it should be. Owns the composition; what is done
//! to the daemon is in `load`, what is held against it in `checkpoint`.

mod arguments;
mod checkpoint;
mod fault;
mod ground;
mod ledger;
mod load;
mod run;
mod schedule;
mod sum;
mod totals;
mod trend;

use std::process::ExitCode;

use tokio::signal::unix::{signal, SignalKind};

use arguments::Arguments;
use run::Run;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let arguments = match Arguments::parse(&words) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("vminitd-soak: {error}");
            return ExitCode::FAILURE;
        }
    };
    match run(&arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("vminitd-soak: cannot listen for signals: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the run was clean. A signal ends it early: what it has begun is then cleaned up as at its end.
async fn run(arguments: &Arguments) -> std::io::Result<bool> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let Some(mut run) = Run::begin(arguments).await else { return Ok(false) };
    let faults = tokio::select! {
        faults = run.go() => faults,
        _ = interrupt.recv() => return Ok(interrupted(run).await),
        _ = terminate.recv() => return Ok(interrupted(run).await),
    };
    Ok(run.finish(&faults).await)
}

async fn interrupted(run: Run) -> bool {
    println!("soak: interrupted, cleaning up");
    run.abandon().await;
    false
}
