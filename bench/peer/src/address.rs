//! Where a peer listens by itself. Owns the listener, which serves one connection; never what is said over it.

use std::error::Error;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use vsock::{VsockListener, VMADDR_CID_ANY};

/// Listens on `unix PATH` or `vsock PORT` and waits for one connection. Both are read and written like a file.
///
/// # Errors
/// Words that are no address, and those of bind(2) and accept(2).
pub fn accept(words: &[&str]) -> Result<File, Box<dyn Error>> {
    match words {
        ["unix", path] => Ok(OwnedFd::from(UnixListener::bind(path)?.accept()?.0).into()),
        ["vsock", port] => {
            let listener = VsockListener::bind_with_cid_port(VMADDR_CID_ANY, port.parse()?)?;
            Ok(OwnedFd::from(listener.accept()?.0).into())
        }
        _ => Err("an address is unix PATH or vsock PORT".into()),
    }
}
