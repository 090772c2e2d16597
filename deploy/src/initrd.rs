//! What lies where in the initrd. The layout is a contract with the guest: `/init`, `/sbin/runc`, and modules in
//! `/lib/modules` with their order in `load.order`. There is no shell in it.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::cpio::{CpioError, Tree};
use crate::libraries::{self, LibrariesError};
use crate::modules::{self, Module, ModulesError};

/// Mount points and folders that the guest expects.
const FOLDERS: [&str; 10] = ["bin", "dev", "etc", "lib", "proc", "run", "sbin", "sys", "tmp", "var"];

/// Where the guest looks for modules.
const MODULES: &str = "lib/modules";

/// One path per line, relative to [`MODULES`], in the order of insertion.
const LOAD_ORDER: &str = "lib/modules/load.order";

/// Why no initrd could be built.
#[derive(Debug, thiserror::Error)]
pub enum InitrdError {
    /// An input cannot be read.
    #[error("read {path}")]
    Read { path: PathBuf, source: io::Error },
    /// The output cannot be written.
    #[error("write {path}")]
    Write { path: PathBuf, source: io::Error },
    /// A library's path is not UTF-8.
    #[error("archive {0}: its path is not UTF-8")]
    Path(PathBuf),
    /// The libraries of the OCI runtime.
    #[error(transparent)]
    Libraries(#[from] LibrariesError),
    /// The kernel's modules.
    #[error(transparent)]
    Modules(#[from] ModulesError),
    /// The archive itself.
    #[error(transparent)]
    Cpio(#[from] CpioError),
}

/// The files that make an initrd.
#[derive(Debug)]
pub struct Inputs {
    /// The static guest binary, which becomes `/init`.
    pub init: PathBuf,
    /// The OCI runtime, which becomes `/sbin/runc`.
    pub runc: PathBuf,
    /// An unpacked `lib/modules/VERSION` with its `modules.dep`.
    pub modules: PathBuf,
}

/// Builds the initrd as bytes.
pub fn build(inputs: &Inputs) -> Result<Vec<u8>, InitrdError> {
    let mut tree = skeleton();
    tree.file("init", 0o755, read(&inputs.init)?);
    tree.file("sbin/runc", 0o755, read(&inputs.runc)?);
    for (path, bytes) in libraries::needed_by(&inputs.runc)? {
        let path = path.to_str().ok_or_else(|| InitrdError::Path(path.clone()))?;
        tree.file(path, 0o755, bytes);
    }
    add_modules(&mut tree, modules::collect(&inputs.modules, &modules::WANTED)?);
    let mut archive = Vec::new();
    tree.write_to(&mut archive)?;
    Ok(archive)
}

/// Builds the initrd into the file `out`, which is there only when it is complete.
pub fn write(inputs: &Inputs, out: &Path) -> Result<(), InitrdError> {
    let part = out.with_extension("part");
    let failed = |source| InitrdError::Write { path: out.to_owned(), source };
    fs::write(&part, build(inputs)?).map_err(failed)?;
    fs::rename(&part, out).map_err(failed)
}

/// The folders, and the two nodes that are needed before devtmpfs is mounted (numbers: Linux,
/// Documentation/admin-guide/devices.txt).
fn skeleton() -> Tree {
    let mut tree = Tree::default();
    for folder in FOLDERS {
        tree.directory(folder);
    }
    tree.char_device("dev/console", 0o600, 5, 1);
    tree.char_device("dev/null", 0o666, 1, 3);
    tree
}

fn add_modules(tree: &mut Tree, modules: Vec<Module>) {
    let mut order = String::new();
    for module in modules {
        order.push_str(&module.file_name);
        order.push('\n');
        tree.file(&format!("{MODULES}/{}", module.file_name), 0o644, module.image);
    }
    tree.file(LOAD_ORDER, 0o644, order.into_bytes());
}

fn read(path: &Path) -> Result<Vec<u8>, InitrdError> {
    fs::read(path).map_err(|source| InitrdError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel's modules folder in which each wanted module stands alone.
    fn inputs(folder: &Path) -> Inputs {
        let dep: String = modules::WANTED.iter().map(|name| format!("{name}.ko:\n")).collect();
        fs::write(folder.join("modules.dep"), dep).unwrap();
        fs::write(folder.join("modules.builtin"), "").unwrap();
        for name in modules::WANTED {
            fs::write(folder.join(format!("{name}.ko")), name).unwrap();
        }
        let init = folder.join("init");
        fs::write(&init, "init").unwrap();
        Inputs { init, runc: std::env::current_exe().unwrap(), modules: folder.to_owned() }
    }

    #[test]
    fn the_same_inputs_give_the_same_bytes() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert!(build(&inputs(one.path())).unwrap() == build(&inputs(other.path())).unwrap());
    }

    #[test]
    fn the_order_of_insertion_is_a_file_of_the_image() {
        let folder = tempfile::tempdir().unwrap();
        let image = build(&inputs(folder.path())).unwrap();
        let order: String = modules::WANTED.iter().map(|name| format!("{name}.ko\n")).collect();
        assert!(image.windows(order.len()).any(|part| part == order.as_bytes()));
    }

    #[test]
    fn a_failed_build_leaves_no_image() {
        let folder = tempfile::tempdir().unwrap();
        let inputs = inputs(folder.path());
        fs::remove_file(folder.path().join("ext4.ko")).unwrap();
        let out = folder.path().join("initrd.img");
        assert!(write(&inputs, &out).is_err());
        assert!(!out.exists());
    }
}
