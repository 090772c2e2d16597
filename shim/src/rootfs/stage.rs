//! Staging: the folders in the container's own, what is mounted on them, in which order, and its undoing. Never removes
//! a folder.

use std::fs::{self, DirBuilder, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{umount2, MntFlags};
use vminitd_api::containerd::api::Mount;

use super::division::{all_of_the_host, disk_root, shared_root, DiskRoot};
use super::error::{step, RootfsError};
use super::source::Source;
use super::tree::{open_place, Tree};
use super::{root, upper, Request};
use crate::plan::{ReadOnly, Volume};
use crate::sys::MountAttr;
use crate::vm::Disk;

/// What a container has been given. Dropping it leaves everything as it is.
#[derive(Debug)]
pub struct Staged {
    share: PathBuf,
    /// Where the root is put together.
    staging: PathBuf,
    root: Option<PathBuf>,
    /// Of the guest's part of the root.
    division: DiskRoot,
}

/// Mounts all that the container is to see of the host's files, in a mount namespace as [`super::own_namespace`] makes
/// it. Blocks as mount(2) does.
///
/// # Errors
/// Any but `Namespace`; nothing is mounted then.
pub fn stage(request: &Request<'_>) -> Result<Staged, RootfsError> {
    let on_host = all_of_the_host(request.mounts);
    let share = request.dir.join("share");
    let division = match on_host {
        true => DiskRoot { guest_mounts: shared_root(request.root.read_only), ..Default::default() },
        false => disk_root(request.mounts)?,
    };
    division.disks.iter().try_for_each(check_image)?;
    let root = on_host.then(|| share.join("rootfs"));
    let mut staged = Staged { root, share, staging: request.dir.join("staging"), division };
    match staged.mount(request) {
        Ok(()) => Ok(staged),
        Err(error) => {
            // The first failure is the one to tell of.
            let _ = staged.unmount();
            Err(error)
        }
    }
}

impl Staged {
    /// The folder that virtiofsd is to serve as [`super::TAG`]. It is always there, if only for volumes.
    pub fn share(&self) -> &Path {
        &self.share
    }

    /// The container's root; none if it is on disks.
    pub fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// Disks that the machine is to have.
    pub fn disks(&self) -> &[Disk] {
        &self.division.disks
    }

    /// `rootfs` of the guest's Create: the share as the last but one, the root as the last.
    pub fn guest_mounts(&self) -> &[Mount] {
        &self.division.guest_mounts
    }

    /// Takes away all that was mounted, here and where virtiofsd saw it; may be called again. Whoever still has a file
    /// open keeps its file system in use, so virtiofsd and the holder have to be gone if nothing is to be.
    ///
    /// # Errors
    /// `Step`, the first; all that could be unmounted is.
    pub fn unmount(&mut self) -> Result<(), RootfsError> {
        detach(&self.staging).and(detach(&self.share))
    }

    /// The points to mount on come first: on the share itself, which is read-only, none can be made. It belongs to the
    /// host's `/run`, which no guest is to fill.
    fn mount(&mut self, request: &Request<'_>) -> Result<(), RootfsError> {
        let volumes = request.volumes.iter().map(volume).collect::<Result<Vec<_>, _>>()?;
        make_dir(&self.share)?;
        make_dir(&self.share.join("volumes"))?;
        for (n, (source, _)) in volumes.iter().enumerate() {
            make_point(&self.volume(n), source.directory)?;
        }
        if self.division.upper.is_some() {
            make_dir(&self.share.join(upper::FOLDER))?;
        }
        if let Some(root) = &self.root {
            make_dir(root)?;
            make_dir(&self.staging)?;
        }
        open_share(&self.share)?;
        if let Some(path) = &self.root {
            let tree = root::tree(request, &self.staging)?;
            tree.attach(path).map_err(step("mount the root on", path))?;
            detach(&self.staging)?;
        }
        if let Some(path) = &self.division.upper {
            let tree = open_place(path).and_then(|folder| Tree::copy(folder.as_fd(), false));
            let attached = tree.and_then(|tree| tree.attach(&self.share.join(upper::FOLDER)));
            attached.map_err(step("share the folder", path))?;
        }
        for (n, (_, tree)) in volumes.into_iter().enumerate() {
            let path = self.volume(n);
            tree.attach(&path).map_err(step("mount a volume on", &path))?;
        }
        Ok(())
    }

    fn volume(&self, n: usize) -> PathBuf {
        self.share.join("volumes").join(n.to_string())
    }
}

/// Binds the share onto itself. It is shared with the namespaces that are made from now on: a virtiofsd in one of them
/// sees what is mounted and unmounted here.
fn open_share(share: &Path) -> Result<(), RootfsError> {
    let bind = || {
        let folder = open_place(share)?;
        let tree = Tree::copy(folder.as_fd(), false)?;
        let (set, recursive) = (libc::MOUNT_ATTR_RDONLY, false);
        // One that is private first is nobody's slave: what the host mounts below the folder is not for the guest.
        for propagation in [libc::MS_PRIVATE, libc::MS_SHARED] {
            tree.set(MountAttr { set, propagation, recursive })?;
        }
        tree.attach(share)
    };
    bind().map_err(step("share", share))
}

fn volume(volume: &Volume) -> Result<(Source, Tree), RootfsError> {
    let path = &volume.source;
    let source = Source::open(volume)?;
    let tree = Tree::copy(source.file.as_fd(), true).map_err(step("bind", path))?;
    let sealed = match volume.read_only {
        ReadOnly::No => Ok(()),
        ReadOnly::Yes => tree.set(MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..Default::default() }),
        ReadOnly::Recursive => tree.seal(),
    };
    sealed.map_err(step("make read-only", path))?;
    Ok((source, tree))
}

fn check_image(disk: &Disk) -> Result<(), RootfsError> {
    let path = &disk.path;
    let kind = fs::metadata(path).map_err(step("look at the image", path))?.file_type();
    match kind.is_file() || kind.is_block_device() {
        true => Ok(()),
        false => Err(RootfsError::NoImage(path.clone())),
    }
}

fn make_dir(path: &Path) -> Result<(), RootfsError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(step("make the folder", path))
}

fn make_point(path: &Path, directory: bool) -> Result<(), RootfsError> {
    match directory {
        true => make_dir(path),
        // Never emptied: in a second try it may be the host's file already.
        false => {
            let mut file = OpenOptions::new();
            file.append(true).create(true).open(path).map(drop).map_err(step("make the file", path))
        }
    }
}

/// Unmounts everything at and below `path`, one over the other, also what is in use.
fn detach(path: &Path) -> Result<(), RootfsError> {
    let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
    loop {
        match umount2(path, flags) {
            Ok(()) => {}
            // Nothing is mounted there (any more), or nothing is there.
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(step("unmount", path)(errno)),
        }
    }
}
