//! Limits of the process.

use std::io;

use nix::sys::resource::{getrlimit, setrlimit, Resource};

/// A soft and a hard limit (getrlimit(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    pub soft: u64,
    pub hard: u64,
}

/// RLIMIT_NOFILE of this process.
pub fn nofile() -> io::Result<Limit> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(Limit { soft, hard })
}

/// Sets RLIMIT_NOFILE and returns what it was.
pub fn set_nofile(limit: Limit) -> io::Result<Limit> {
    let before = nofile()?;
    setrlimit(Resource::RLIMIT_NOFILE, limit.soft, limit.hard)?;
    Ok(before)
}
