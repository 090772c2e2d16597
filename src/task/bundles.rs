//! Bundles that were made for a host, and only those are removed.

use std::collections::HashSet;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::TaskError;
use super::ids::ContainerId;
use crate::blocking::Disks;
use crate::lock::Lock;
use crate::rootfs;

/// The folder of bundles; a handle.
#[derive(Clone)]
pub struct Bundles(Arc<Shared>);

struct Shared {
    dir: PathBuf,
    disks: Disks,
    made: Lock<HashSet<PathBuf>>,
}

/// The name of a file in a bundle: one component of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileName(String);

/// Why a text is no file name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid file name {0:?}")]
pub struct FileNameError(String);

impl FileName {
    pub fn parse(text: &str) -> Result<FileName, FileNameError> {
        let is_name = !matches!(text, "" | "." | "..") && !text.contains(['/', '\\', '\0']);
        is_name.then(|| FileName(text.to_owned())).ok_or_else(|| FileNameError(text.to_owned()))
    }
}

impl Bundles {
    /// `dir` is created with the first bundle.
    pub fn in_folder(dir: PathBuf, disks: Disks) -> Bundles {
        Bundles(Arc::new(Shared { dir, disks, made: Lock::default() }))
    }

    /// Makes a bundle with these files and an empty `rootfs` in it. A failure leaves nothing of it.
    pub async fn create(
        &self,
        id: &ContainerId,
        files: Vec<(FileName, Vec<u8>)>,
    ) -> Result<PathBuf, TaskError> {
        let path = self.0.dir.join(id.as_str());
        let (bundles, bundle) = (self.0.dir.clone(), path.clone());
        match self.0.disks.run("writing the bundle", move || write(&bundles, &bundle, &files)).await? {
            Ok(()) => {
                self.made().insert(path.clone());
                Ok(path)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(TaskError::BundleExists(id.clone()))
            }
            Err(source) => Err(TaskError::Bundle { what: "write", path, source }),
        }
    }

    /// Removes a bundle, if it was made here, and nothing of what is still mounted in it. A failure is logged: the
    /// container is gone all the same.
    pub async fn remove(&self, bundle: &Path) {
        if !self.made().remove(bundle) {
            return;
        }
        let path = bundle.to_owned();
        let work = move || {
            rootfs::remove_tree(&path).map_err(|source| TaskError::Bundle { what: "remove", path, source })
        };
        let removed = self.0.disks.run("removing the bundle", work).await;
        let removed = removed.map_err(TaskError::from).and_then(|removed| removed);
        if let Err(error) = removed {
            tracing::warn!(%error, "a bundle is left");
        }
    }

    /// Removes all that were made here but for those `in_use`, which are canonical paths, and those in which something is
    /// mounted: to give up a mount is not this one's to decide.
    pub async fn remove_unused(&self, in_use: &[PathBuf]) {
        let made: Vec<PathBuf> = self.made().iter().cloned().collect();
        let in_use = in_use.to_vec();
        let unused = move || made.into_iter().filter(|bundle| is_unused(bundle, &in_use)).collect::<Vec<_>>();
        match self.0.disks.run("looking at bundles", unused).await {
            Ok(unused) => {
                for bundle in unused {
                    self.remove(&bundle).await;
                }
            }
            Err(error) => tracing::warn!(%error, "bundles are left"),
        }
    }

    fn made(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.0.made.lock()
    }
}

fn is_unused(bundle: &Path, in_use: &[PathBuf]) -> bool {
    let canonical = bundle.canonicalize().unwrap_or_else(|_| bundle.to_owned());
    let mounted = || !rootfs::mounts_below(&canonical).is_ok_and(|mounts| mounts.is_empty());
    !in_use.contains(&canonical) && !mounted()
}

fn write(bundles: &Path, bundle: &Path, files: &[(FileName, Vec<u8>)]) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o750).create(bundles)?;
    // Its own failure, "exists" among them, is not undone: the folder is somebody else's.
    DirBuilder::new().mode(0o750).create(bundle)?;
    let filled = fill(bundle, files);
    if filled.is_err() {
        let _ = rootfs::remove_tree(bundle);
    }
    filled
}

fn fill(bundle: &Path, files: &[(FileName, Vec<u8>)]) -> io::Result<()> {
    DirBuilder::new().mode(0o750).create(bundle.join("rootfs"))?;
    for (name, content) in files {
        let path = bundle.join(&name.0);
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(content)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_is_one_component() {
        for good in ["config.json", "a..b", ".hidden"] {
            assert!(FileName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "/etc/passwd", "a/b", "a\\b", "a\0"] {
            assert_eq!(FileName::parse(bad), Err(FileNameError(bad.to_owned())));
        }
    }

    #[test]
    fn a_failed_bundle_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let bundle = dir.path().join("b");
        let rootfs = FileName::parse("rootfs").expect("a name");
        assert!(write(dir.path(), &bundle, &[(rootfs, Vec::new())]).is_err());
        assert!(!bundle.exists());
    }
}
