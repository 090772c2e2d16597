//! The `poststop` hooks, once in the life of a container, whoever gets to it: the shim at Delete, the rollback of a
//! failed Create, or the `delete` command after a crash. Owns the marker that says so.
//!
//! The marker is a file that is locked while the hooks run and has one byte for each that has ended. The kernel drops
//! the lock of a runner that dies, so the next one goes on behind the last hook that has ended. Only a hook that was
//! cut off with its runner runs a second time. The other order, first the mark and then the hook, would skip it; but
//! what these hooks do is a DEL of CNI, which has to be repeatable (CNI spec, "DEL"), while one that is missing leaks
//! an address and makes nerdctl's next run fail.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tokio::time::{sleep, Instant};

use super::run::run_logged;
use super::{ContainerState, PoststopError};
use crate::plan::Hook;

/// Only a runner that was killed while it forked keeps the lock for a moment longer than its life, in its child.
const TURN: Duration = Duration::from_millis(500);
/// How often the lock is tried.
const LOOK: Duration = Duration::from_millis(10);

/// Runs those of the hooks that have not run yet, all of them whatever happens to one: a failure is logged.
///
/// `marker` is a file of the container, the same for every caller; it is made if need be. `began` gets the pid of each.
///
/// # Errors
/// Any [`PoststopError`]; hooks that have not run will, at the next call. If this is dropped, so will the one it was
/// at.
pub async fn poststop(
    marker: &Path,
    hooks: &[Hook],
    state: &ContainerState,
    mut began: impl FnMut(u32),
) -> Result<(), PoststopError> {
    let failed = |source| PoststopError::Marker { path: marker.to_owned(), source };
    let mut marker = lock(open(marker).map_err(failed)?, failed).await?;
    let ended = usize::try_from(marker.metadata().map_err(failed)?.len()).unwrap_or(usize::MAX);
    for hook in hooks.iter().skip(ended) {
        run_logged(hook, state, &mut began).await;
        marker.write_all(b".").map_err(failed)?;
    }
    Ok(())
}

fn open(marker: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(marker)
}

async fn lock(
    mut file: File,
    failed: impl Fn(io::Error) -> PoststopError,
) -> Result<Flock<File>, PoststopError> {
    let deadline = Instant::now() + TURN;
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => return Ok(locked),
            Err((_, Errno::EWOULDBLOCK)) if Instant::now() >= deadline => {
                return Err(PoststopError::Busy(TURN))
            }
            Err((file, Errno::EWOULDBLOCK)) => file,
            Err((_, errno)) => return Err(failed(errno.into())),
        };
        sleep(LOOK).await;
    }
}
