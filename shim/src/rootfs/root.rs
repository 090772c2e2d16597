//! The container's root on the host: the mounts of containerd one over the other, as its `mount.All` has them, or the
//! folder of the bundle. Owns how they are put together, in a place apart from the share; gives them as one tree, and
//! never mounts it there.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use nix::mount::{mount, MsFlags};
use vminitd_api::containerd::api::Mount;

use super::error::{step, RootfsError};
use super::options::{Data, Options};
use super::source::name;
use super::tree::{open_place, Tree};
use super::{points, Request};
use crate::sys::MountAttr;

/// What a bind can have besides the flags of its source. How times of access are kept stays the source's affair.
const OF_A_BIND: [(MsFlags, u64); 4] = [
    (MsFlags::MS_RDONLY, libc::MOUNT_ATTR_RDONLY),
    (MsFlags::MS_NOSUID, libc::MOUNT_ATTR_NOSUID),
    (MsFlags::MS_NODEV, libc::MOUNT_ATTR_NODEV),
    (MsFlags::MS_NOEXEC, libc::MOUNT_ATTR_NOEXEC),
];

/// The root with all beneath it. `staging` is an empty folder of ours; what is mounted there stays until the caller
/// unmounts it.
pub(super) fn tree(request: &Request<'_>, staging: &Path) -> Result<Tree, RootfsError> {
    let path = match request.mounts.is_empty() {
        true => request.bundle.join(&request.root.path),
        false => {
            mount_all(request.mounts, staging)?;
            staging.to_owned()
        }
    };
    let root = open_place(&path).map_err(step("open the root", &path))?;
    let is_folder = root.metadata().map_err(step("look at the root", &path))?.is_dir();
    if !is_folder {
        return Err(step("open the root", &path)(nix::Error::ENOTDIR));
    }
    if request.root.read_only {
        for point in &request.root.points {
            points::make(&root, point).map_err(step("make the mount point", &point.path))?;
        }
    }
    let tree = Tree::copy(root.as_fd(), true).map_err(step("bind the root", &path))?;
    if request.root.read_only {
        tree.seal().map_err(step("make read-only the root", &path))?;
    }
    Ok(tree)
}

fn mount_all(mounts: &[Mount], staging: &Path) -> Result<(), RootfsError> {
    for mount in mounts {
        let options = Options::parse(&mount.type_, &mount.options)?;
        let place = beneath(staging, &mount.target)?;
        match options.flags.contains(MsFlags::MS_BIND) {
            true => bind(mount, &options, &place)?,
            false => mount_at(mount, options, &place)?,
        }
    }
    Ok(())
}

/// Opens `target` in what was mounted before.
fn beneath(staging: &Path, target: &str) -> Result<File, RootfsError> {
    let root = open_place(staging).map_err(step("open", staging))?;
    points::find(&root, Path::new(target)).map_err(step("find in the root", Path::new(target)))
}

/// A bind keeps the flags of what it shows and adds its own.
fn bind(mount: &Mount, options: &Options, place: &File) -> Result<(), RootfsError> {
    let path = Path::new(&mount.source);
    let own = OF_A_BIND.iter().filter(|(flag, _)| options.flags.contains(*flag));
    let set = own.map(|(_, attr)| attr).fold(0, |set, attr| set | attr);
    let source = open_place(path).map_err(step("open", path))?;
    let tree = Tree::copy(source.as_fd(), options.flags.contains(MsFlags::MS_REC));
    let attached = tree.and_then(|tree| {
        tree.set(MountAttr { set, ..Default::default() })?;
        tree.attach_to(place.as_fd())
    });
    attached.map_err(step("bind", path))
}

fn mount_at(from: &Mount, options: Options, place: &File) -> Result<(), RootfsError> {
    let data = Data::fit(options.data)?;
    let (source, kind) = (from.source.as_str(), from.type_.as_str());
    mount(Some(source), &name(place), Some(kind), options.flags, Some(data.text.as_str())).map_err(|errno| {
        RootfsError::Mount { kind: kind.to_owned(), from: source.to_owned(), source: errno.into() }
    })
}
