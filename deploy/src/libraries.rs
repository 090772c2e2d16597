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

/// All that `program` needs besides itself, by the path at which its loader will look, with the contents. Empty for a
/// static program.
pub fn needed_by(program: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>, LibrariesError> {
    let mut found: BTreeMap<PathBuf, Vec<u8>> = BTreeMap::new();
    let mut open = VecDeque::from(direct(program, &read(program)?)?);
    while let Some(path) = open.pop_front() {
        // By name, as the loader does: the C library names the loader, which came first, under another path.
        if found.keys().any(|known| known.file_name() == path.file_name()) {
            continue;
        }
        let bytes = read(&path)?;
        open.extend(direct(&path, &bytes)?);
        found.insert(path, bytes);
    }
    Ok(found)
}

/// Paths of the loader and the libraries that the file names itself.
fn direct(path: &Path, bytes: &[u8]) -> Result<Vec<PathBuf>, LibrariesError> {
    let elf = Elf::parse(bytes).map_err(|source| LibrariesError::Parse { path: path.to_owned(), source })?;
    let mut paths: Vec<PathBuf> = elf.interpreter.into_iter().map(PathBuf::from).collect();
    for name in elf.libraries {
        let library = FOLDERS.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists());
        paths.push(
            library.ok_or_else(|| LibrariesError::NotFound {
                name: name.to_owned(),
                needed_by: path.to_owned(),
            })?,
        );
    }
    Ok(paths)
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
        let found = needed_by(&std::env::current_exe().unwrap()).unwrap();
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
            matches!(needed_by(file.path()), Err(LibrariesError::Parse { path, .. }) if path == file.path())
        );
    }
}
