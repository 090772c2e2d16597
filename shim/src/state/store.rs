//! The folder of a container and the file in it. Owns that a reader sees a whole record or the one before it, and that
//! nothing is removed that is only mounted there.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{State, StateError};

/// On a tmpfs, as pids mean nothing after a boot.
const BASE: &str = "/run/vminit";
const FILE: &str = "state.json";
/// A record that is being written; nobody reads it.
const NEW_FILE: &str = ".state.json";
/// Bytes of the hash in a folder's name, two digits each. There are Unix sockets in the folder, and a path of theirs
/// must not be long (unix(7)).
const NAME_BYTES: usize = 8;

/// Where all that belongs to a container is; `address` is containerd's socket, of which a host may have several.
pub fn dir(address: &str, namespace: &str, id: &str) -> PathBuf {
    let hash = Sha256::digest(format!("{address}/{namespace}/{id}"));
    let name: String = hash.iter().take(NAME_BYTES).map(|byte| format!("{byte:02x}")).collect();
    Path::new(BASE).join(name)
}

impl State {
    /// The record in a container's folder; none if there is no folder, or nothing had been begun.
    ///
    /// # Errors
    /// `Read` and `Unknown`.
    pub fn load(dir: &Path) -> Result<Option<State>, StateError> {
        let path = dir.join(FILE);
        match fs::read(&path) {
            Ok(json) => serde_json::from_slice(&json).map_err(|source| StateError::Unknown { path, source }),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StateError::Read { path, source }),
        }
    }

    /// Replaces the record, in a folder that is made if need be and is open to its owner only.
    ///
    /// Returns when another process can read it; that it survives a crash of the machine is of no use.
    ///
    /// # Errors
    /// `Write`; the record before it is still there then.
    pub fn save(&self, dir: &Path) -> Result<(), StateError> {
        let path = dir.join(FILE);
        let failed = |source| StateError::Write { path: path.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let json = serde_json::to_vec(self).expect("its keys are texts, and no time is before 1970");
        let new = dir.join(NEW_FILE);
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&new);
        file.and_then(|mut file| file.write_all(&json)).map_err(failed)?;
        fs::rename(&new, &path).map_err(failed)
    }
}

/// Removes a container's folder, if there is one, the record before anything else: without it there is nothing to undo.
///
/// # Errors
/// `Mounted`, and nothing is removed; `Read` and `Remove`.
pub fn remove(dir: &Path) -> Result<(), StateError> {
    refuse_mounts(dir)?;
    gone(&dir.join(FILE), fs::remove_file)?;
    gone(dir, fs::remove_dir_all)
}

fn gone(path: &Path, remove: impl Fn(PathBuf) -> std::io::Result<()>) -> Result<(), StateError> {
    match remove(path.to_owned()) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            Err(StateError::Remove { path: path.to_owned(), source: e })
        }
        _ => Ok(()),
    }
}

/// What is below a mount, like a volume, is not ours. The shim's mounts are in its own namespace and gone with it; but
/// removal would go right through one that is not.
fn refuse_mounts(dir: &Path) -> Result<(), StateError> {
    let path = Path::new("/proc/thread-self/mountinfo");
    let table =
        fs::read_to_string(path).map_err(|source| StateError::Read { path: path.to_owned(), source })?;
    // The fifth field is the mount point (proc_pid_mountinfo(5)). Its escapes do not matter: our own folders need none.
    let mut points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new);
    match points.find(|point| point.starts_with(dir)) {
        Some(point) => Err(StateError::Mounted(point.to_owned())),
        None => Ok(()),
    }
}
