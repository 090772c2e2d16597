//! Putting a container's root file system together from the mounts of a request, and taking it apart again.
//!
//! What was done is plain data, so that Delete can undo it long after. Nothing here knows of tasks. Every call
//! blocks, but for the wait for devices.

mod assembled;
mod device;
mod error;
mod options;
#[cfg(test)]
mod tests;

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use tracing::warn;

pub use assembled::Assembled;
pub use error::RootfsError;
use options::Options;

use crate::sys::mount::{mount, mounts_below, unmount, Place};

/// One mount as the request has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The type of the file system; `bind` needs no option to say so again.
    pub kind: String,
    /// A path, a name, or `serial:<id>` for the block device of that serial.
    pub source: String,
    /// A path beneath the place that this mount has by its position; mostly empty.
    pub target: String,
    /// Options in the style of fstab.
    pub options: Vec<String>,
}

/// A mount that was checked and has its place.
struct Planned<'a> {
    mount: &'a Mount,
    options: Options,
    base: PathBuf,
    target: PathBuf,
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

/// Puts the names of block devices in place of their serials. Each may take `wait` to appear; no thread is held for it.
pub async fn await_devices(mut mounts: Vec<Mount>, wait: Duration) -> Result<Vec<Mount>, RootfsError> {
    for mount in &mut mounts {
        mount.source = device::resolve(&mount.source, wait).await?;
    }
    Ok(mounts)
}

/// Mounts `mounts` in order, the last at `<bundle>/rootfs` and number `i` of the others at `<bundle>/mounts/<i>`.
///
/// All are checked before the first is mounted, and a failure unmounts those before it. Sources are what mount(2)
/// takes: see [`await_devices`]. Blocks.
pub fn assemble(mounts: &[Mount], bundle: &Path) -> Result<Assembled, RootfsError> {
    let bundle = fs::canonicalize(bundle).map_err(|source| RootfsError::path(bundle, source))?;
    let rootfs = bundle.join("rootfs");
    let mut assembled = Assembled::new(rootfs.clone());
    if is_in_place(mounts, &rootfs) {
        return Ok(assembled);
    }
    let plan = plan(mounts, &bundle)?;
    for planned in &plan {
        if let Err(error) = apply(planned, &mut assembled) {
            if let Err(left) = assembled.unwind() {
                warn!(bundle = %bundle.display(), error = %left, "mounts are left behind");
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

fn plan<'a>(mounts: &'a [Mount], bundle: &Path) -> Result<Vec<Planned<'a>>, RootfsError> {
    let base = |index: usize| match index + 1 == mounts.len() {
        true => bundle.join("rootfs"),
        false => bundle.join("mounts").join(index.to_string()),
    };
    let planned = |(index, mount): (usize, &'a Mount)| {
        check_kind(&mount.kind)?;
        let options = Options::parse(&mount.kind, &mount.options)?;
        Ok(Planned { mount, options, base: base(index), target: relative(&mount.target)? })
    };
    mounts.iter().enumerate().map(planned).collect()
}

/// Types that ask for more than a mount are not understood, and the kernel's answer to them would mislead.
fn check_kind(kind: &str) -> Result<(), RootfsError> {
    match ["format/", "mkdir/"].iter().any(|prefix| kind.starts_with(prefix)) {
        true => Err(RootfsError::Unsupported { what: "mount type", value: kind.to_owned() }),
        false => Ok(()),
    }
}

/// The target of a mount, to be followed from its base. A leading `/` means the base.
fn relative(target: &str) -> Result<PathBuf, RootfsError> {
    let parts = Path::new(target).components().filter(|part| *part != Component::RootDir);
    let inside = |part| match part {
        Component::Normal(name) => Some(name),
        _ => None,
    };
    parts.map(inside).collect::<Option<_>>().ok_or_else(|| RootfsError::Escape { target: target.to_owned() })
}

fn apply(planned: &Planned<'_>, done: &mut Assembled) -> Result<(), RootfsError> {
    let from = planned.mount.source.clone();
    make_dirs(&planned.base, done)?;
    let place = open_target(planned)?;
    let path = place.path().map_err(|source| RootfsError::path(&planned.base, source))?;
    mount_at(&from, &place, &path, planned, done).map_err(|source| {
        let kind = planned.mount.kind.clone();
        RootfsError::Mount { kind, from, target: path, source }
    })
}

/// Mounts, and then what mount(2) cannot do in the same call.
fn mount_at(
    from: &str,
    place: &Place,
    path: &Path,
    planned: &Planned<'_>,
    done: &mut Assembled,
) -> io::Result<()> {
    let options = &planned.options;
    mount(from, &place.handle(), &planned.mount.kind, options.flags, &options.data)?;
    done.mounted(path.to_owned());
    // The place is what the mount covers now, so the mount itself is reached by its path.
    for flags in options.bind_remount().into_iter().chain(options.propagation) {
        mount("", path, "", flags, "")?;
    }
    Ok(())
}

/// Opens the place to mount at, making the directories of the target that are missing. They lie in a file system
/// that was mounted before, or in the bundle, and stay there.
fn open_target(planned: &Planned<'_>) -> Result<Place, RootfsError> {
    let mut path = PathBuf::new();
    let mut place = Place::beneath(&planned.base, &path);
    for part in planned.target.components() {
        let parent = place.map_err(|source| RootfsError::path(&planned.base, source))?;
        path.push(part);
        place = match Place::beneath(&planned.base, &path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let made = parent.handle().join(part);
                DirBuilder::new()
                    .mode(0o755)
                    .create(made)
                    .map_err(|source| RootfsError::path(&path, source))?;
                Place::beneath(&planned.base, &path)
            }
            place => place,
        };
    }
    place.map_err(|source| RootfsError::path(&planned.base.join(&path), source))
}

/// Makes the base of a mount and, above it, `mounts`, if they are missing.
fn make_dirs(base: &Path, done: &mut Assembled) -> Result<(), RootfsError> {
    let missing: Vec<&Path> = base.ancestors().take_while(|path| !path.exists()).collect();
    for path in missing.into_iter().rev() {
        DirBuilder::new().mode(0o750).create(path).map_err(|source| RootfsError::path(path, source))?;
        done.made(path.to_owned());
    }
    Ok(())
}
