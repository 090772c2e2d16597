//! The network that the kernel's command line asks for.

use std::path::Path;

use super::Boot;
use crate::net;

/// What cannot be done of it is a failure each.
pub(super) fn configure(boot: &mut Boot<'_>) {
    let settings = net::Settings {
        ip: boot.machine.ip.clone(),
        metadata: boot.machine.metadata_addr,
        wait: boot.machine.net_wait,
        etc: Path::new("/etc").to_owned(),
    };
    net::configure(&settings, |failure| boot.failed("ip", failure));
}
