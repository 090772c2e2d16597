//! The socket of a task: where it is, and how it is bound where an earlier shim may have left one. Never serves it.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{connect, socket, AddressFamily, SockFlag, SockType, UnixAddr};
use sha2::{Digest, Sha256};

use super::{Call, StartError};

/// Where containerd's own shims have their sockets unless they are told.
const DEFAULT_DIR: &str = "/run/containerd/s";

/// What binding found.
#[derive(Debug)]
pub(super) enum Bound {
    /// Ours alone.
    Fresh(UnixListener),
    /// Another process accepts on it: the same task has its shim already.
    Served,
}

/// The path for a task, made as containerd's own shims make it: containerd knows where to look for what was left.
pub(super) fn path(dir: Option<&Path>, call: &Call) -> PathBuf {
    let key = [call.address.as_str(), &call.namespace, &call.id].iter().collect::<PathBuf>();
    let hash = Sha256::digest(key.as_os_str().as_encoded_bytes());
    dir.unwrap_or(Path::new(DEFAULT_DIR)).join(format!("{hash:x}"))
}

/// Listens on `path`; its folder is made if need be. A socket that nobody listens on is replaced.
///
/// Not for two at once: containerd starts one shim for a task, for it makes the bundle's folder first.
///
/// # Errors
/// `Listen`, also for a path that is longer than a socket takes (unix(7)).
pub(super) fn bind(path: &Path) -> Result<Bound, StartError> {
    try_bind(path).map_err(|source| StartError::Listen { path: path.to_owned(), source })
}

fn try_bind(path: &Path) -> io::Result<Bound> {
    if let Some(dir) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    let listener = match UnixListener::bind(path) {
        Err(e) if e.kind() == ErrorKind::AddrInUse => {
            if is_served(path)? {
                return Ok(Bound::Served);
            }
            fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        other => other?,
    };
    // Whoever may connect is root on this host in effect. The usual umask has kept all others out until here.
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(Bound::Fresh(listener))
}

/// Whether somebody listens; asked without ever waiting, where a plain connect would wait for room in the backlog.
fn is_served(path: &Path) -> io::Result<bool> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let probe = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    match connect(probe.as_raw_fd(), &UnixAddr::new(path)?) {
        Ok(()) | Err(Errno::EAGAIN) => Ok(true),
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> Call {
        Call {
            namespace: "default".into(),
            id: "c1".into(),
            address: "/run/containerd/containerd.sock".into(),
            bundle: None,
            debug: false,
        }
    }

    #[test]
    fn the_path_is_the_one_that_containerd_computes() {
        // printf %s /run/containerd/containerd.sock/default/c1 | sha256sum
        let hash = "d25aa4ef11a84e954e74a5bcff06557d0b6ea8d0c00243896f29826694bbd888";
        assert_eq!(path(None, &call()), Path::new("/run/containerd/s").join(hash));
        assert_eq!(path(Some(Path::new("/x")), &call()), Path::new("/x").join(hash));
    }

    #[test]
    fn a_dead_socket_is_replaced_and_a_live_one_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s").join("socket");
        let Ok(Bound::Fresh(first)) = bind(&path) else { panic!("nothing is there") };
        assert!(matches!(bind(&path), Ok(Bound::Served)));
        drop(first);
        let Ok(Bound::Fresh(_second)) = bind(&path) else { panic!("nobody listens") };
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_is_no_socket_is_not_taken_for_a_shim() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        fs::write(&path, "").unwrap();
        assert!(matches!(bind(&path), Ok(Bound::Fresh(_))));
    }

    #[test]
    fn a_path_without_room_is_refused_by_name() {
        let path = Path::new("/run").join("x".repeat(107));
        assert!(matches!(bind(&path), Err(StartError::Listen { path: named, .. }) if named == path));
    }
}
