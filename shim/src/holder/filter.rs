//! The seccomp filter of a holder: what a process may do that does nothing. Owns the list; never removes anything else.

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use seccompiler::{BpfProgram, Error, SeccompAction, SeccompFilter};

/// Waiting; coming back from a handler of the Rust runtime, which then dies of the signal; and closing, because the
/// last descriptor is closed behind the filter, whose failure is told through it. Everything else kills.
const ALLOWED: [i64; 3] = [libc::SYS_rt_sigsuspend, libc::SYS_rt_sigreturn, libc::SYS_close];

/// # Errors
/// On an architecture that `seccompiler` does not know.
pub(super) fn program() -> Result<BpfProgram, Error> {
    let rules = ALLOWED.map(|number| (number, Vec::new())).into_iter().collect::<BTreeMap<_, _>>();
    let arch = ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, arch)?;
    Ok(filter.try_into()?)
}
