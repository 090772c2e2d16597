//! A stand-in for runc that follows a script, so that tests can make it fail, hang and die where runc rarely does.
//!
//! It owns runc's command line as a caller sees it: verbs, options, pid files, the JSON log, exit statuses. It never
//! makes a namespace, a cgroup or a mount; its "containers" are plain processes that do what a tiny language says.
//!
//! Under its `--root R` it keeps: `fake-runc.json`, the script (see [`script`]); `invocations.log`, one line of JSON
//! for each call; and a folder for each container.
#![allow(
    clippy::disallowed_methods,
    reason = "the ban keeps children away from PID 1's back; this is not PID 1"
)]

mod args;
mod console;
mod container;
mod program;
mod script;
mod verbs;

use std::process::ExitCode;

use args::Invocation;
use script::Behaviour;

fn main() -> ExitCode {
    let argv: Vec<String> = std::env::args().skip(1).collect();
    if let Some(run) = program::hidden_verb(&argv) {
        return run;
    }
    let invocation = match Invocation::parse(&argv) {
        Ok(invocation) => invocation,
        Err(text) => return complain(&text),
    };
    match run(&invocation, &argv) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            invocation.log_error(&text);
            complain(&text)
        }
    }
}

/// What runc does with an error besides logging it.
fn complain(text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::FAILURE
}

fn run(invocation: &Invocation, argv: &[String]) -> Result<(), String> {
    // In this order: a test that has seen the call may change the script for the next one.
    let behaviour = Behaviour::of(invocation)?;
    script::record(invocation, argv)?;
    behaviour.misbehave(invocation)?;
    verbs::run(invocation, &behaviour)?;
    behaviour.linger(invocation)
}
