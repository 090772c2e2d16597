//! What the guest sees of the host's files: one folder that is shared with it, in which the container's root and its
//! volumes are mounted; and of a root that is on images, these as disks, and in the share what is written to on the
//! host. Owns these mounts and what the guest is told of them; never starts a process, and knows nothing of tasks.
//!
//! What is read-only is so by the host's mounts: root in the guest undoes whatever the guest's kernel was told. All is
//! mounted before there is a guest, since it would not see what is put over a folder that it has looked up.

mod division;
mod error;
mod options;
mod points;
mod root;
mod source;
mod stage;
mod tree;
mod upper;

use std::path::Path;

use nix::mount::{mount, MsFlags};
use nix::sched::{unshare, CloneFlags};
use vminitd_api::containerd::api::Mount;

pub use error::RootfsError;
pub use source::kind_of;
pub use stage::{stage, Staged};

use crate::plan;

/// By which the guest finds the virtiofs device of the share.
pub const TAG: &str = "share";

/// What of the host's files a container gets.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The container's folder for the time it runs, open to its owner only.
    pub dir: &'a Path,
    pub bundle: &'a Path,
    pub root: &'a plan::Root,
    pub volumes: &'a [plan::Volume],
    /// Of Create. Without any the root is what `root` says.
    pub mounts: &'a [Mount],
}

/// Where the guest finds volume `n` of the container `id`, whose root is made of `mounts`.
pub fn volume_in_guest(id: &str, mounts: &[Mount], n: usize) -> String {
    format!("/run/bundles/{id}/mounts/{}/volumes/{n}", division::share_index(mounts))
}

/// Leaves the host's mount namespace for one in which what is mounted is seen nowhere else, and gone with the last
/// process in it. What the host mounts and unmounts is still seen. Other threads of the process stay where they are, so
/// it is for a process that has only one.
///
/// # Errors
/// `Namespace`: without CAP_SYS_ADMIN.
pub fn own_namespace() -> Result<(), RootfsError> {
    let failed = |step| move |source: nix::Error| RootfsError::Namespace { step, source: source.into() };
    unshare(CloneFlags::CLONE_NEWNS).map_err(failed("make a mount namespace"))?;
    let slave = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    mount(None::<&str>, "/", None::<&str>, slave, None::<&str>).map_err(failed("keep mounts from the host"))
}
