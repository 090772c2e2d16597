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

/// Lets this process open `most` files, whatever its limits are; returns these. Only root may.
pub fn set_nofile(most: u64) -> io::Result<Limit> {
    change_nofile(|_| Limit { soft: most, hard: most })
}

/// Lets this process open as many files as its hard limit allows, but no more than `most` if its soft limit does not;
/// returns what the limits were.
pub fn raise_nofile(most: u64) -> io::Result<Limit> {
    change_nofile(|Limit { soft, hard }| Limit { soft: soft.max(hard.min(most)), hard })
}

fn change_nofile(change: impl FnOnce(Limit) -> Limit) -> io::Result<Limit> {
    let before = nofile()?;
    let Limit { soft, hard } = change(before);
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
    Ok(before)
}
