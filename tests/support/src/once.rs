//! The daemon run for its exit status: with arguments that do not let it serve.

use std::process::{Command, ExitStatus, Stdio};

use crate::binaries;

/// Runs vminitd to its end; its status, and what it printed. Blocks, for as long as it runs.
pub fn run_vminitd(args: &[&str]) -> (ExitStatus, String) {
    let run = Command::new(binaries::vminitd()).args(args).stdin(Stdio::null()).output();
    let ended = run.unwrap_or_else(|e| panic!("run {}: {e}", binaries::vminitd().display()));
    let printed = [ended.stdout, ended.stderr].concat();
    (ended.status, String::from_utf8_lossy(&printed).into_owned())
}
