//! Putting a container's root file system together from the mounts of a request, and taking it apart again.
//!
//! What was done is plain data, so that Delete can undo it long after. Nothing here knows of tasks. Every call
//! blocks, but for the wait for devices.

mod assembled;
mod bundle;
mod device;
mod error;
mod mkdir;
mod options;
mod overlay;
mod plan;
mod source;
mod template;
#[cfg(test)]
mod tests;

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use tracing::warn;

pub use assembled::Assembled;
pub use device::names_device;
pub use error::RootfsError;

use crate::sys::mount::{mount, mount_from, unmount, Place};
pub use crate::sys::mountinfo::mounts_below;
use bundle::{Bundle, NewDir};
use plan::Planned;
use source::Source;

/// Directories that mounts are put on, as containerd's guests make them: for root alone.
const PRIVATE: NewDir = NewDir::with_mode(0o750);
/// Directories in what a container will see.
const PUBLIC: NewDir = NewDir::with_mode(0o755);

/// One mount as the request has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The type of the file system; `bind` needs no option to say so again. Before it may stand `format/`, for
    /// templates in the other fields, and `mkdir/`, for directories to make first.
    pub kind: String,
    /// A path, a name, or what finds a block device: `serial:<id>`; of the file system on it `label:<label>` and
    /// `uuid:<uuid>`, or, as fstab(5) has them, `LABEL=<label>` and `UUID=<uuid>`.
    pub source: String,
    /// A path beneath the place that this mount has by its position; mostly empty.
    pub target: String,
    /// Options in the style of fstab.
    pub options: Vec<String>,
}

/// Removes a folder and all that is in it. Whatever is mounted below is unmounted first; if that fails nothing is
/// removed, so that no file of a mounted file system ever is. Blocks.
pub fn remove_tree(folder: &Path) -> io::Result<()> {
    for point in mounts_below(folder)? {
        unmount(&point)?;
    }
    if let Some(left) = mounts_below(folder)?.first() {
        return Err(io::Error::new(ErrorKind::ResourceBusy, format!("{} is mounted", left.display())));
    }
    fs::remove_dir_all(folder)
}

/// Puts the nodes of block devices in place of what they are named by, and waits for those that are named: up to `wait`
/// for all together. No thread is held between two looks for them.
pub async fn await_devices(mut mounts: Vec<Mount>, wait: Duration) -> Result<Vec<Mount>, RootfsError> {
    plan::count(&mounts)?;
    device::resolve(&mut mounts, wait).await?;
    Ok(mounts)
}

/// The nodes of block devices that are named as in the source of a [`Mount`], each or why there is none. Waits up to
/// `wait` for all of them together.
pub async fn find_devices(names: &[String], wait: Duration) -> Vec<Result<String, RootfsError>> {
    device::find(names, wait).await
}

/// Mounts `mounts` in order, the last at `<bundle>/rootfs` and number `i` of the others at `<bundle>/mounts/<i>`.
///
/// All are checked before the first is mounted. A failure undoes those before it, and the same bundle can be tried
/// again. Sources are what mount(2) takes: see [`await_devices`]. Blocks.
pub fn assemble(mounts: &[Mount], bundle: &Path) -> Result<Assembled, RootfsError> {
    let bundle = Bundle::open(bundle)?;
    let mut assembled = Assembled::new(bundle.path().to_owned());
    if is_in_place(mounts, &bundle.path().join("rootfs")) {
        return Ok(assembled);
    }
    for planned in plan::plan(mounts, &bundle)? {
        if let Err(error) = apply(&planned, &bundle, &mut assembled) {
            if let Err(left) = assembled.unwind() {
                warn!(bundle = %bundle.path().display(), error = %left, "mounts are left behind");
            }
            return Err(error);
        }
    }
    Ok(assembled)
}

/// The host has put everything at its place and says so by a bind of the rootfs onto itself.
fn is_in_place(mounts: &[Mount], rootfs: &Path) -> bool {
    match mounts {
        [only] => only.kind == "bind" && fs::canonicalize(&only.source).is_ok_and(|source| source == rootfs),
        _ => false,
    }
}

/// Makes the directories, looks where the named paths lead, and mounts.
fn apply(planned: &Planned, bundle: &Bundle, done: &mut Assembled) -> Result<(), RootfsError> {
    for directory in &planned.directories {
        bundle.make(Path::new("mounts"), &PRIVATE, &PRIVATE, done)?;
        bundle.make(&directory.inside, &PUBLIC, &directory.new, done)?;
    }
    for path in &planned.named_inside {
        bundle.place(path)?;
    }
    bundle.make(&planned.base_inside, &PRIVATE, &PRIVATE, done)?;
    let place = bundle.make(&planned.point_inside, &PUBLIC, &PUBLIC, done)?;
    let source = Source::open(planned, bundle)?;
    let point = bundle.path().join(&planned.point_inside);
    let mounted = mount_at(&source.name(), &place, planned);
    let finished = mounted.and_then(|()| {
        done.mounted(planned.point_inside.clone());
        finish(planned, &point)
    });
    if finished.is_err() {
        source.release();
    }
    finished.map_err(|source| {
        let (kind, from) = (planned.kind.clone(), planned.source.clone());
        RootfsError::Mount { kind, from, target: point, source }
    })
}

fn mount_at(source: &str, place: &Place, planned: &Planned) -> io::Result<()> {
    let (target, kind, flags) = (place.handle(), &planned.kind, planned.flags);
    match &planned.data.from {
        None => mount(source, &target, kind, flags, &planned.data.text),
        Some(dir) => mount_from(&Place::open(dir)?, source, &target, kind, flags, &planned.data.text),
    }
}

/// The place is what the mount covers now, so the mount itself is reached by its path.
fn finish(planned: &Planned, point: &Path) -> io::Result<()> {
    planned.after.iter().try_for_each(|flags| mount("", point, "", *flags, ""))
}
