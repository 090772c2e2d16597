//! The taps and the redirects: how they are made and taken away. What there is to join is the survey's.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::kernel::Kernel;
use super::namespace::Namespace;
use super::survey::Found;
use super::{NetError, Nic};
use crate::state::Wiring;
use crate::sys;

/// For removing everything: `delete` leaves it a second.
const UNWIRE: Duration = Duration::from_millis(900);

/// As of [`super::Survey::connect`]; in the namespace.
pub(super) async fn connect(kernel: &Kernel, links: &[Found]) -> Result<Vec<Nic>, NetError> {
    let mut nics = Vec::new();
    for (joined, found) in links.iter().enumerate() {
        match join(kernel, found).await {
            Ok(nic) => nics.push(nic),
            Err(error) => {
                // The taps go with their descriptors, and what was redirected there would be lost.
                for found in &links[..joined] {
                    if let Err(error) = kernel.remove_ingress(found.index).await {
                        tracing::warn!("cannot {error}");
                    }
                }
                return Err(error);
            }
        }
    }
    Ok(nics)
}

/// Joins one interface, or leaves no trace of it.
async fn join(kernel: &Kernel, found: &Found) -> Result<Nic, NetError> {
    let (name, mtu) = (found.tap(), found.wanted.mtu);
    let step = |source| NetError::Kernel { step: format!("make tap {name}"), source };
    let fd = sys::make_tap(&name).map_err(step)?;
    let tap = kernel.index_of(&name).ok_or_else(|| step(io::ErrorKind::NotFound.into()))?;
    kernel.bring_up(tap, mtu).await?;
    kernel.redirect(tap, found.index).await?;
    kernel.redirect(found.index, tap).await?;
    Ok(Nic { tap: fd, mac: found.wanted.mac.clone(), mtu, name: found.wanted.name.clone() })
}

/// Removes what [`super::Survey::connect`] has made in the namespace at this path, by its names. What is not there, be
/// it the namespace itself, is no error.
///
/// # Errors
/// `Namespace` and `Kernel`, the first of them: all the rest was done; `Late` after [`UNWIRE`].
pub async fn unwire(netns: &Path, wiring: &Wiring) -> Result<(), NetError> {
    let Wiring { taps, qdiscs, .. } = wiring.clone();
    if taps.is_empty() && qdiscs.is_empty() {
        return Ok(());
    }
    let work = async move |kernel| remove(&kernel, &taps, &qdiscs).await;
    let removed = match Namespace::open(netns) {
        Ok(namespace) => namespace.inside(UNWIRE, work).await,
        Err(error) => Err(error),
    };
    removed.or_else(|error| if error.is_gone() { Ok(()) } else { Err(error) })
}

async fn remove(kernel: &Kernel, taps: &[String], qdiscs: &[String]) -> Result<(), NetError> {
    let mut result = Ok(());
    for link in qdiscs.iter().filter_map(|name| kernel.index_of(name)) {
        result = result.and(kernel.remove_ingress(link).await);
    }
    for tap in taps.iter().filter_map(|name| kernel.index_of(name)) {
        result = result.and(kernel.remove_link(tap).await);
    }
    result
}
