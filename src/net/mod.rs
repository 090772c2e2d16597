//! The VM's own network: links, and later addresses, routes and the resolver. It knows nothing of containers.

use std::io;

use crate::sys::net::bring_up;

/// Brings `lo` up, without which no process of the VM reaches 127.0.0.1; the kernel leaves it down.
pub fn loopback_up() -> io::Result<()> {
    bring_up("lo")
}
