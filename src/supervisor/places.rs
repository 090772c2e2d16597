//! Where the agent's files are: the binary that is run, the folders it may arrive in, its pid file, its log. Finding and
//! installing the binary is all that is done here; nothing is started.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The name of the binary wherever it arrives.
const NAME: &str = "spin-supervisor";

/// The mode of a binary that was not executable, or was copied.
const MODE: u32 = 0o755;

/// Why a binary that was found cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error("copy {path} to {to}", path = path.display(), to = to.display())]
    Copy { path: PathBuf, to: PathBuf, source: io::Error },
    #[error("make {path} executable", path = path.display())]
    Mode { path: PathBuf, source: io::Error },
}

/// The places of the agent.
#[derive(Debug, Clone)]
pub struct Places {
    /// The only place to look at, if it was configured.
    configured: Option<PathBuf>,
    /// The first place to look at, and the one that a binary is copied to from where programs cannot run.
    installed: PathBuf,
    /// A binary may be two levels below, in `<namespace>/<container>`.
    arrivals: PathBuf,
    /// Mounted noexec.
    noexec: PathBuf,
    pub pid_file: PathBuf,
    pub log: PathBuf,
}

impl Places {
    /// Beneath `root`, which is `/` in PID 1.
    pub fn beneath(root: &Path, configured: Option<PathBuf>) -> Places {
        Places {
            configured,
            installed: root.join("var/lib/spin-stack/bin").join(NAME),
            arrivals: root.join("run/spin-stack"),
            noexec: root.join("run"),
            pid_file: root.join("run/spin-supervisor.pid"),
            log: root.join("var/log/spin-supervisor.log"),
        }
    }

    /// A binary that can be run, or `None` if there is none. Blocks.
    pub fn install(&self) -> Result<Option<PathBuf>, InstallError> {
        let Some(found) = self.find() else { return Ok(None) };
        if found.starts_with(&self.noexec) {
            return self.copy(found).map(Some);
        }
        match make_executable(&found) {
            Ok(()) => Ok(Some(found)),
            Err(source) => Err(InstallError::Mode { path: found, source }),
        }
    }

    fn find(&self) -> Option<PathBuf> {
        if let Some(configured) = &self.configured {
            return configured.is_file().then(|| configured.clone());
        }
        if self.installed.is_file() {
            return Some(self.installed.clone());
        }
        let containers = folders(&self.arrivals).flat_map(|namespace| folders(&namespace));
        containers.map(|container| container.join(NAME)).filter(|path| path.is_file()).min()
    }

    fn copy(&self, from: PathBuf) -> Result<PathBuf, InstallError> {
        let to = &self.installed;
        match copy(&from, to) {
            Ok(()) => Ok(to.clone()),
            Err(source) => Err(InstallError::Copy { path: from, to: to.clone(), source }),
        }
    }
}

/// Under another name first: what is at `to` is whole at any time.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    let part = to.with_extension("part");
    let copied = fs::copy(from, &part)
        .and_then(|_| fs::set_permissions(&part, Permissions::from_mode(MODE)))
        .and_then(|()| fs::rename(&part, to));
    if copied.is_err() {
        // It takes memory. If it was never made there is nothing to remove.
        let _ = fs::remove_file(&part);
    }
    copied
}

fn make_executable(path: &Path) -> io::Result<()> {
    match fs::metadata(path)?.permissions().mode() & 0o100 {
        0 => fs::set_permissions(path, Permissions::from_mode(MODE)),
        _ => Ok(()),
    }
}

/// What is in a folder; nothing, if it is none.
fn folders(path: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &Path, text: &str, mode: u32) {
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        fs::write(path, text).expect("a file");
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
    }

    /// Makes these files, each holding its own name, and says which one is run and what it holds.
    fn check(files: &[&str], configured: Option<&str>, expected: Option<(&str, &str)>) {
        let dir = tempfile::tempdir().expect("a folder");
        for name in files {
            file(&dir.path().join(name), name, 0o644);
        }
        let places = Places::beneath(dir.path(), configured.map(|name| dir.path().join(name)));
        let found = places.install().expect("it is installed");
        let Some((path, text)) = expected else { return assert_eq!(found, None) };
        let path = dir.path().join(path);
        assert_eq!(found.as_ref(), Some(&path), "{files:?}");
        assert_eq!(fs::read_to_string(&path).expect("it is there"), text);
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, MODE);
        let left = fs::read_dir(path.parent().expect("a folder")).expect("a folder").count();
        assert_eq!(left, 1, "no temporary file is left");
    }

    const INSTALLED: &str = "var/lib/spin-stack/bin/spin-supervisor";
    const ARRIVED: &str = "run/spin-stack/default/b/spin-supervisor";

    #[test]
    fn the_first_of_the_places_is_run_and_none_is_no_error() {
        check(&[], None, None);
        check(&["run/spin-stack/spin-supervisor", "run/spin-stack/default/a/other"], None, None);
        check(&[INSTALLED, ARRIVED], None, Some((INSTALLED, INSTALLED)));
        let two = ["run/spin-stack/default/c/spin-supervisor", ARRIVED];
        check(&two, None, Some((INSTALLED, ARRIVED)));
        check(
            &["run/spin-stack/a/z/spin-supervisor", ARRIVED],
            None,
            Some((INSTALLED, "run/spin-stack/a/z/spin-supervisor")),
        );
    }

    #[test]
    fn a_configured_path_is_the_only_place() {
        check(&[INSTALLED, "opt/agent"], Some("opt/agent"), Some(("opt/agent", "opt/agent")));
        check(&[INSTALLED], Some("opt/agent"), None);
        check(&["run/agent"], Some("run/agent"), Some((INSTALLED, "run/agent")));
    }

    #[test]
    fn an_executable_binary_keeps_its_mode() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join(INSTALLED);
        file(&path, "", 0o700);
        Places::beneath(dir.path(), None).install().expect("it is installed");
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_copy_that_fails_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        file(&dir.path().join(ARRIVED), "", 0o644);
        // A folder in the place of the binary cannot be replaced by a file.
        fs::create_dir_all(dir.path().join(INSTALLED).join("in the way")).expect("folders");
        let failed = Places::beneath(dir.path(), None).install();
        assert!(matches!(failed, Err(InstallError::Copy { .. })), "{failed:?}");
        assert_eq!(fs::read_dir(dir.path().join("var/lib/spin-stack/bin")).expect("a folder").count(), 1);
    }
}
