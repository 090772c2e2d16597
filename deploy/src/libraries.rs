//! Finds the shared libraries that a program needs, by reading `PT_INTERP` and `DT_NEEDED`; it never runs the program
//! or the loader, so it works for files of any machine.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::{fs, io};

use goblin::elf::Elf;

/// Where a loader looks without a cache or environment: its built-in folders (ld.so(8)), and those Debian adds.
const FOLDERS: [&str; 8] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];

/// Where a library goes that came from no folder of a loader: loaders of all machines look here.
const UNPACKED_AT: &str = "/usr/lib";

/// Why a program's libraries could not be found.
#[derive(Debug, thiserror::Error)]
pub enum LibrariesError {
    /// A program or library cannot be read.
    #[error("read {path}")]
    Read { path: PathBuf, source: io::Error },
    /// It is not ELF, or damaged.
    #[error("parse {path}")]
    Parse { path: PathBuf, source: goblin::error::Error },
    /// No folder of the loader has it.
    #[error("find the library {name}, which {needed_by} needs")]
    NotFound { name: String, needed_by: PathBuf },
}

/// A library: where it is on this machine, and the path at which a loader will look for it.
struct Library {
    from: PathBuf,
    at: PathBuf,
}

/// All that `program` needs besides itself, by the path at which its loader will look, with the contents. Empty for a
/// static program. What this machine has not installed is taken from the folders `unpacked`.
pub fn needed_by(program: &Path, unpacked: &[PathBuf]) -> Result<BTreeMap<PathBuf, Vec<u8>>, LibrariesError> {
    let mut found: BTreeMap<PathBuf, Vec<u8>> = BTreeMap::new();
    let mut open = VecDeque::from(direct(program, &read(program)?, unpacked)?);
    while let Some(Library { from, at }) = open.pop_front() {
        // By name, as the loader does: the C library names the loader, which came first, under another path.
        if found.keys().any(|known| known.file_name() == at.file_name()) {
            continue;
        }
        let bytes = read(&from)?;
        open.extend(direct(&from, &bytes, unpacked)?);
        found.insert(at, bytes);
    }
    Ok(found)
}

/// The loader and the libraries that the file names itself.
fn direct(path: &Path, bytes: &[u8], unpacked: &[PathBuf]) -> Result<Vec<Library>, LibrariesError> {
    let elf = Elf::parse(bytes).map_err(|source| LibrariesError::Parse { path: path.to_owned(), source })?;
    let interpreter = elf.interpreter.into_iter().map(PathBuf::from);
    let mut libraries: Vec<Library> =
        interpreter.map(|path| Library { from: path.clone(), at: path }).collect();
    for name in elf.libraries {
        let library = find(name, unpacked);
        libraries.push(
            library.ok_or_else(|| LibrariesError::NotFound {
                name: name.to_owned(),
                needed_by: path.to_owned(),
            })?,
        );
    }
    Ok(libraries)
}

fn find(name: &str, unpacked: &[PathBuf]) -> Option<Library> {
    let installed = FOLDERS.iter().map(|folder| Path::new(folder).join(name));
    let mut installed = installed.map(|path| Library { from: path.clone(), at: path });
    let mut unpacked = unpacked
        .iter()
        .map(|folder| Library { from: folder.join(name), at: Path::new(UNPACKED_AT).join(name) });
    let exists = |library: &Library| library.from.exists();
    installed.find(exists).or_else(|| unpacked.find(exists))
}

fn read(path: &Path) -> Result<Vec<u8>, LibrariesError> {
    fs::read(path).map_err(|source| LibrariesError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tests themselves are a program that needs a C library, unless they are built static.
    #[test]
    #[cfg(not(target_feature = "crt-static"))]
    fn a_dynamic_program_needs_its_loader_and_c_library() {
        let found = needed_by(&std::env::current_exe().unwrap(), &[]).unwrap();
        let has = |part: &str| found.keys().any(|path| path.to_string_lossy().contains(part));
        assert!(has("/ld-"), "{:?}", found.keys());
        assert!(has("/libc.so"), "{:?}", found.keys());
        assert_eq!(found.keys().filter(|path| path.to_string_lossy().contains("/ld-")).count(), 1);
    }

    #[test]
    fn a_file_that_is_not_elf_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "#!/bin/sh\n").unwrap();
        assert!(
            matches!(needed_by(file.path(), &[]), Err(LibrariesError::Parse { path, .. }) if path == file.path())
        );
    }

    #[test]
    fn a_library_that_is_not_installed_comes_from_what_was_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("libnosuch.so.1"), "").unwrap();
        let unpacked = [folder.path().to_owned()];
        let found = find("libnosuch.so.1", &unpacked).unwrap();
        assert_eq!(
            (found.from, found.at.as_path()),
            (folder.path().join("libnosuch.so.1"), Path::new("/usr/lib/libnosuch.so.1"))
        );
        assert!(find("libnosuch.so.2", &unpacked).is_none());
    }
}
