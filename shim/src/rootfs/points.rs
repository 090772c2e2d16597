//! Paths in a container's root, which comes from an image: its symlinks lead nowhere outside of it. Owns how they are
//! followed, and making what is missing there; never mounts.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{openat, openat2, OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::{fchmodat, mkdirat, FchmodatFlags, Mode};

use crate::plan::{clean, Point};

/// Of the folders that lead to a point, as runc makes them.
const MODE: Mode = Mode::S_IRWXU.union(Mode::from_bits_truncate(0o055));

/// Opens `path` as if `root` were the root.
pub(super) fn find(root: &File, path: &Path) -> io::Result<File> {
    let path = if path.as_os_str().is_empty() { Path::new("/") } else { path };
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    Ok(openat2(root, path, how)?.into())
}

/// Makes what of `point` is not there: folders, and as the last what it is to be, with its mode. What is there stays as
/// it is. So does a symlink that leads nowhere: it may lead into what the guest's runtime mounts before.
pub(super) fn make(root: &File, point: &Point) -> io::Result<()> {
    let mut here = find(root, Path::new("/"))?;
    let whole = clean(&point.path);
    let mut done = PathBuf::new();
    for name in &whole {
        done.push(name);
        let found = find(root, &done);
        if matches!(&found, Err(error) if error.kind() == ErrorKind::NotFound) {
            let last = Some(point).filter(|_| done == whole);
            match make_one(&here, Path::new(name), last) {
                Err(Errno::EEXIST) => return Ok(()),
                made => made?,
            }
            here = find(root, &done)?;
        } else {
            here = found?;
        }
    }
    Ok(())
}

/// Makes the point, or a folder that leads to it.
fn make_one(parent: &File, name: &Path, point: Option<&Point>) -> nix::Result<()> {
    match point {
        Some(Point { directory: false, .. }) => {
            openat(parent, name, OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC, MODE).map(drop)?;
        }
        _ => mkdirat(parent, name, MODE)?,
    }
    // By name, as what was just made: its mode is subject to no umask then.
    let mode = point.map_or(MODE, |point| Mode::from_bits_truncate(point.mode));
    fchmodat(parent, name, mode, FchmodatFlags::FollowSymlink)
}
