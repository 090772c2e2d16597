//! What lies where in the initrd. The layout is a contract with the guest: `/init`, `/sbin/runc`, and modules in
//! `/lib/modules` with their order in `load.order`. There is no shell in it unless one is asked for.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::cpio::{CpioError, Tree};
use crate::libraries::{self, LibrariesError};
use crate::modules::{self, Module, Modules, ModulesError};

/// Mount points and folders that the guest expects.
const FOLDERS: [&str; 10] = ["bin", "dev", "etc", "lib", "proc", "run", "sbin", "sys", "tmp", "var"];

/// Where the guest looks for modules.
const MODULES: &str = "lib/modules";

/// One path per line, relative to [`MODULES`], in the order of insertion. An empty line ends those that listening
/// needs.
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
    /// The libraries of a program.
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
#[derive(Debug, Default)]
pub struct Inputs {
    /// The static guest binary, which becomes `/init`.
    pub init: PathBuf,
    /// The OCI runtime, which becomes `/sbin/runc`.
    pub runc: PathBuf,
    /// Further programs, each with its path in the image.
    pub programs: Vec<(String, PathBuf)>,
    /// Folders with libraries of those programs that this machine has not installed.
    pub libraries: Vec<PathBuf>,
    /// An unpacked `lib/modules/VERSION` with its `modules.dep`.
    pub modules: PathBuf,
    /// Modules beyond those that every guest needs.
    pub further_modules: Vec<String>,
}

/// Builds the initrd as bytes.
pub fn build(inputs: &Inputs) -> Result<Vec<u8>, InitrdError> {
    let mut tree = skeleton();
    tree.file("init", 0o755, read(&inputs.init)?);
    add_program(&mut tree, "sbin/runc", &inputs.runc, &inputs.libraries)?;
    for (at, program) in &inputs.programs {
        add_program(&mut tree, at, program, &inputs.libraries)?;
    }
    let further: Vec<&str> = inputs.further_modules.iter().map(String::as_str).collect();
    add_modules(&mut tree, modules::collect(&inputs.modules, &further)?);
    archive(&tree)
}

/// An archive with nothing but the modules that every guest needs. The kernel unpacks archives that stand one behind
/// the other (Linux, Documentation/driver-api/early-userspace/buffer-format.rst), so it makes an image without drivers
/// bootable by a kernel that has none inside.
pub fn modules_alone(folder: &Path) -> Result<Vec<u8>, InitrdError> {
    let mut tree = Tree::default();
    add_modules(&mut tree, modules::collect(folder, &[])?);
    archive(&tree)
}

/// Writes an archive into the file `out`, which is there only when it is complete.
pub fn write(archive: &[u8], out: &Path) -> Result<(), InitrdError> {
    let part = out.with_extension("part");
    let failed = |source| InitrdError::Write { path: out.to_owned(), source };
    fs::write(&part, archive).map_err(failed)?;
    fs::rename(&part, out).map_err(failed)
}

/// The tree as bytes.
pub(crate) fn archive(tree: &Tree) -> Result<Vec<u8>, InitrdError> {
    let mut archive = Vec::new();
    tree.write_to(&mut archive)?;
    Ok(archive)
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

/// Adds a program with its libraries.
pub(crate) fn add_program(
    tree: &mut Tree,
    at: &str,
    from: &Path,
    unpacked: &[PathBuf],
) -> Result<(), InitrdError> {
    tree.file(at, 0o755, read(from)?);
    for (path, bytes) in libraries::needed_by(from, unpacked)? {
        let path = path.to_str().ok_or_else(|| InitrdError::Path(path.clone()))?;
        tree.file(path, 0o755, bytes);
    }
    Ok(())
}

fn add_modules(tree: &mut Tree, modules: Modules) {
    let names = |modules: &[Module]| -> String {
        modules.iter().map(|module| format!("{}\n", module.file_name)).collect()
    };
    let order = format!("{}\n{}", names(&modules.listening), names(&modules.others));
    tree.file(LOAD_ORDER, 0o644, order.into_bytes());
    for module in modules.listening.into_iter().chain(modules.others) {
        tree.file(&format!("{MODULES}/{}", module.file_name), 0o644, module.image);
    }
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, InitrdError> {
    fs::read(path).map_err(|source| InitrdError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel's modules folder in which each wanted module stands alone.
    fn inputs(folder: &Path) -> Inputs {
        let every = || modules::LISTENING.iter().chain(&modules::OTHERS);
        let dep: String = every().map(|name| format!("{name}.ko:\n")).collect();
        fs::write(folder.join("modules.dep"), dep).unwrap();
        fs::write(folder.join("modules.builtin"), "").unwrap();
        for name in every() {
            fs::write(folder.join(format!("{name}.ko")), name).unwrap();
        }
        let init = folder.join("init");
        fs::write(&init, "init").unwrap();
        let runc = std::env::current_exe().unwrap();
        Inputs { init, runc, modules: folder.to_owned(), ..Inputs::default() }
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
        let lines = |names: &[&str]| names.iter().map(|name| format!("{name}.ko\n")).collect::<String>();
        let order = format!("{}\n{}", lines(&modules::LISTENING), lines(&modules::OTHERS));
        assert!(image.windows(order.len()).any(|part| part == order.as_bytes()));
    }

    #[test]
    fn further_programs_and_modules_are_added_to_what_every_guest_has() {
        let folder = tempfile::tempdir().unwrap();
        let mut inputs = inputs(folder.path());
        inputs.programs.push(("bin/tool".into(), inputs.runc.clone()));
        inputs.further_modules.push("ext4".into());
        let image = build(&inputs).unwrap();
        assert!(image.windows(8).any(|part| part == b"bin/tool"));
        inputs.further_modules.push("nosuch".into());
        assert!(matches!(build(&inputs), Err(InitrdError::Modules(ModulesError::Unknown(_)))));
    }

    #[test]
    fn a_module_that_is_missing_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let inputs = inputs(folder.path());
        let module = folder.path().join("ext4.ko");
        fs::remove_file(&module).unwrap();
        let Err(InitrdError::Modules(ModulesError::Read { path, .. })) = build(&inputs) else {
            panic!("it was built")
        };
        assert_eq!(path, module);
    }

    #[test]
    fn the_modules_alone_are_those_of_every_guest_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        inputs(folder.path());
        let image = modules_alone(folder.path()).unwrap();
        let holds = |name: &[u8]| image.windows(name.len()).any(|part| part == name);
        assert!(holds(b"lib/modules/load.order") && holds(b"lib/modules/ext4.ko"));
        assert!(!holds(b"proc"));
    }
}
