//! The bundle: the one place where directories are made and mounts are put.
//!
//! A path in it is followed from an open handle, one component after the other, and never through a symlink: what was
//! mounted earlier comes from disks that nobody has looked at, and a symlink there could lead anywhere.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use super::{Assembled, RootfsError};
use crate::sys::mount::{leads_out, Place};

/// What the kernel takes for a path, in bytes, the one that ends it included (path_resolution(7)).
pub(super) const PATH_MAX: usize = 4096;

/// Components of a path from the bundle. Each that is missing costs a directory, and a lookup of all above it when it
/// goes again; the paths that hosts ask for have less than ten.
pub(super) const DEPTH_MAX: usize = 64;

pub(super) struct Bundle {
    root: Place,
    path: PathBuf,
    /// As the request has it, which may run through symlinks of the guest's own.
    given: PathBuf,
}

/// How to make a directory that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NewDir {
    /// Permission bits, whatever the umask.
    pub(super) mode: u32,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

impl NewDir {
    pub(super) const fn with_mode(mode: u32) -> NewDir {
        NewDir { mode, uid: None, gid: None }
    }
}

impl Bundle {
    pub(super) fn open(given: &Path) -> Result<Bundle, RootfsError> {
        let failed = |source| RootfsError::path(given, source);
        let path = fs::canonicalize(given).map_err(failed)?;
        let root = Place::open(&path).map_err(failed)?;
        Ok(Bundle { root, path, given: given.to_owned() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What `path` is called from the bundle; `None` if it does not begin with the bundle's own path. One that begins
    /// there and then goes up is refused, and so is one that is too long or too deep.
    pub(super) fn inside(&self, path: &str) -> Result<Option<PathBuf>, RootfsError> {
        let path = Path::new(path);
        let rest = path.strip_prefix(&self.path).or_else(|_| path.strip_prefix(&self.given));
        rest.ok().map(|rest| self.beneath(Path::new(""), rest)).transpose()
    }

    /// What the path `down` from `base`, which is in the bundle, is called from the bundle. A leading `/` of `down`
    /// means `base`. It is refused as [`Bundle::inside`] does.
    pub(super) fn beneath(&self, base: &Path, down: &Path) -> Result<PathBuf, RootfsError> {
        let parts = down.components().filter(|part| !matches!(part, Component::RootDir | Component::CurDir));
        let bad = |why| Err(RootfsError::invalid("path", &down.to_string_lossy(), why));
        if base.components().chain(parts.clone()).nth(DEPTH_MAX).is_some() {
            return bad("has too many components");
        }
        let names: Option<PathBuf> = parts.map(normal).collect();
        let Some(names) = names else { return Err(RootfsError::Escape { path: down.to_owned() }) };
        let inside: PathBuf = base.iter().chain(&names).collect();
        match self.path.join(&inside).as_os_str().len() < PATH_MAX {
            true => Ok(inside),
            false => bad("is too long"),
        }
    }

    /// Opens what exists in the bundle.
    pub(super) fn place(&self, inside: &Path) -> Result<Place, RootfsError> {
        self.root.beneath(inside).map_err(|error| self.refused(inside, error))
    }

    /// Opens a path in the bundle, making the directories that are missing: those above it as `above`, itself as
    /// `last`.
    pub(super) fn make(
        &self,
        inside: &Path,
        above: &NewDir,
        last: &NewDir,
        done: &mut Assembled,
    ) -> Result<Place, RootfsError> {
        let mut place = self.place(Path::new(""))?;
        let mut path = PathBuf::new();
        for part in inside.components() {
            path.push(part);
            let how = if path == inside { last } else { above };
            place = match place.beneath(part.as_ref()) {
                Err(error) if error.kind() == ErrorKind::NotFound => self.make_one(&place, &path, how, done),
                found => found.map_err(|error| self.refused(&path, error)),
            }?;
        }
        Ok(place)
    }

    /// Makes the directory `path`, whose parent is open.
    fn make_one(
        &self,
        parent: &Place,
        path: &Path,
        how: &NewDir,
        done: &mut Assembled,
    ) -> Result<Place, RootfsError> {
        let name = path.file_name().unwrap_or_default();
        let failed = |error| self.refused(path, error);
        parent.make_dir(name).map_err(failed)?;
        done.made(path.to_owned());
        let place = parent.beneath(name.as_ref()).map_err(failed)?;
        place.adorn(how.mode, how.uid, how.gid).map_err(failed)?;
        Ok(place)
    }

    fn refused(&self, inside: &Path, error: io::Error) -> RootfsError {
        let path = self.path.join(inside);
        match leads_out(&error) {
            true => RootfsError::Escape { path },
            false => RootfsError::Path { path, source: error },
        }
    }
}

fn normal(part: Component<'_>) -> Option<&OsStr> {
    match part {
        Component::Normal(name) => Some(name),
        _ => None,
    }
}
