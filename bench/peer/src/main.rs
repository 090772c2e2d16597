//! The process in a guest that the benchmarks need there. Owns its command line; what it does has files of its own.
//!
//! | `vminitd-bench-peer …` | |
//! |---|---|
//! | `source`, `sink` or `relay`, then `BYTES [ADDRESS]` | moves bytes ([`bytes`]) |
//! | `echo ADDRESS` | writes back what comes over one connection ([`trips`]) |
//! | `exits ADDRESS` | awaits a byte on one connection, writes one, and exits ([`trips`]) |
//! | `bare COUNT COMMAND…` | runs so many commands at once; prints what they took, in microseconds ([`bare`]) |
//! | `bare-mounted COUNT SOURCE BUNDLE COMMAND…` | the same, and before it mounts the roots of their bundles |
//! | `bare-removed COUNT BUNDLE COMMAND…` | the same, and afterwards takes mounts and bundles away |
//! | anything, as PID 1 of a machine | the floor of the boot ([`init`]) |
//!
//! An address, `unix PATH` or `vsock PORT`, is one to listen on.

mod address;
mod bare;
mod bytes;
mod init;
mod trips;

use std::env;
use std::error::Error;
use std::process::{self, ExitCode};
use std::thread;

use bare::Around;
use bytes::{carry, Role};

fn main() -> ExitCode {
    if process::id() == 1 {
        let Err(error) = init::run();
        eprintln!("vminitd-bench-peer: cannot boot: {error}");
        loop {
            thread::park();
        }
    }
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match serve(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vminitd-bench-peer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(words: &[&str]) -> Result<(), Box<dyn Error>> {
    match words {
        ["source", bytes, address @ ..] => carry(Role::Source, bytes.parse()?, address),
        ["sink", bytes, address @ ..] => carry(Role::Sink, bytes.parse()?, address),
        ["relay", bytes, address @ ..] => carry(Role::Relay, bytes.parse()?, address),
        ["echo", address @ ..] => Ok(trips::echo(address::accept(address)?)?),
        ["exits", address @ ..] => Ok(trips::last_word(address::accept(address)?)?),
        ["bare", count, command @ ..] => bare(count, Around::Nothing, command),
        ["bare-mounted", count, source, bundle, command @ ..] => {
            bare(count, Around::Mount { source, bundle }, command)
        }
        ["bare-removed", count, bundle, command @ ..] => bare(count, Around::Remove { bundle }, command),
        _ => Err("a role and what belongs to it are needed".into()),
    }
}

fn bare(count: &str, around: Around<'_>, command: &[&str]) -> Result<(), Box<dyn Error>> {
    println!("{}", bare::run(count.parse()?, around, command)?.as_micros());
    Ok(())
}
