//! Whether the image has criu, without which runc cannot checkpoint.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// An executable file called `criu` in one of the folders of `path`, a text like that of PATH; the first that is
/// found. Folders that are not absolute are passed over. Blocking, but only for a look at each folder.
pub fn find(path: &str) -> Option<PathBuf> {
    let folders = path.split(':').map(Path::new).filter(|folder| folder.is_absolute());
    folders.map(|folder| folder.join("criu")).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_executable_file_of_that_name_is_found() {
        let root = tempfile::tempdir().unwrap();
        let folder = |name: &str| root.path().join(name);
        let [plain, good, later, folder_named_so] = ["plain", "good", "later", "folder"].map(folder);
        for (folder, mode) in [(&plain, 0o644), (&good, 0o755), (&later, 0o755)] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("criu"), "").unwrap();
            fs::set_permissions(folder.join("criu"), fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::create_dir_all(folder_named_so.join("criu")).unwrap();
        let path = |folders: &[&PathBuf]| {
            folders.iter().map(|folder| folder.to_str().unwrap()).collect::<Vec<_>>().join(":")
        };
        assert_eq!(find(&path(&[&plain, &folder_named_so, &good, &later])), Some(good.join("criu")));
        assert_eq!(find(&path(&[&plain, &folder_named_so])), None);
        assert_eq!(find(""), None);
        assert_eq!(find("relative:/nonexistent:"), None);
    }
}
