//! The serving process' log: one line per event to fd 2, which is containerd's log pipe. Never ends or delays the shim:
//! what the pipe does not take is lost.

use std::io;

use tracing::Level;
use tracing_subscriber::fmt;

/// Sends all log events of the process to fd 2, those of level debug only if `debug`. Only the first call counts.
pub fn init(debug: bool) {
    let level = if debug { Level::DEBUG } else { Level::INFO };
    let lines = fmt().with_max_level(level).with_ansi(false).with_target(false).without_time();
    // The one error is that a subscriber is there already, which is what is wanted.
    let _ = tracing::subscriber::set_global_default(lines.with_writer(io::stderr).finish());
}
