//! Which kernel modules go into the image and in which order PID 1 inserts them, read from the kernel's own
//! `modules.dep` and `modules.builtin`. It never resolves aliases or soft dependencies: names are given in full.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// What a guest needs to be reached: its buses and vsock. It loads them before it serves, all others while it does.
pub const LISTENING: [&str; 3] = ["virtio_pci", "virtio_mmio", "vmw_vsock_virtio_transport"];

/// What it needs besides: disks, network, console, file systems and power button. Never `vsock_loopback`: through it a
/// container could reach PID 1's port from inside the VM.
pub const OTHERS: [&str; 11] = [
    "virtio_console",
    "virtio_blk",
    "virtio_net",
    "overlay",
    "ext4",
    "erofs",
    "fuse",
    "virtiofs",
    "loop",
    "button",
    "evdev",
];

/// Ends a module whose signature is appended (Linux, include/linux/module_signature.h, MODULE_SIG_STRING).
const SIGNATURE_MAGIC: &[u8] = b"~Module signature appended~\n";

/// Size of `struct module_signature`, which lies before the magic; its last four bytes are the big-endian length of
/// the signature before it (same header).
const SIGNATURE_INFO_LEN: usize = 12;

/// Why the modules could not be collected.
#[derive(Debug, thiserror::Error)]
pub enum ModulesError {
    /// A file of the modules folder cannot be read.
    #[error("read {path}")]
    Read { path: PathBuf, source: io::Error },
    /// A line of `modules.dep` has no colon.
    #[error("parse modules.dep: no colon in {0:?}")]
    Malformed(String),
    /// Neither a module nor built in.
    #[error("find the module {0}: this kernel has it neither as a module nor built in")]
    Unknown(String),
    /// The kernel's modules are compressed files, which PID 1 does not unpack.
    #[error("use the module {0}: only plain .ko files (as in Debian 12) can be loaded")]
    Compressed(String),
    /// The appended signature claims more bytes than there are.
    #[error("strip the signature of {0}: its length is wrong")]
    Signature(String),
}

/// A module as it goes into the image.
#[derive(Debug)]
pub struct Module {
    /// File name, such as `virtio_blk.ko`.
    pub file_name: String,
    /// The ELF object, without a signature.
    pub image: Vec<u8>,
}

/// The modules of an image, in the order of insertion.
#[derive(Debug)]
pub struct Modules {
    /// Those of [`LISTENING`], and what they depend on.
    pub listening: Vec<Module>,
    /// All others.
    pub others: Vec<Module>,
}

/// Reads what every guest needs, `further` modules, and all they depend on from an unpacked `lib/modules/VERSION`.
pub fn collect(folder: &Path, further: &[&str]) -> Result<Modules, ModulesError> {
    let index =
        Index::parse(&read_text(&folder.join("modules.dep"))?, &read_text(&folder.join("modules.builtin"))?)?;
    let listening = index.insertion_order(&LISTENING)?;
    let wanted = [&LISTENING, &OTHERS[..], further].concat();
    let others = index.insertion_order(&wanted)?.split_off(listening.len());
    let load_all =
        |paths: Vec<&str>| paths.into_iter().map(|path| load(folder, path)).collect::<Result<_, _>>();
    Ok(Modules { listening: load_all(listening)?, others: load_all(others)? })
}

fn load(folder: &Path, path: &str) -> Result<Module, ModulesError> {
    let file_name = path.rsplit('/').next().unwrap_or(path).to_owned();
    if !file_name.ends_with(".ko") {
        return Err(ModulesError::Compressed(file_name));
    }
    let full = folder.join(path);
    let image = fs::read(&full).map_err(|source| ModulesError::Read { path: full, source })?;
    let Some(stripped) = without_signature(&image) else { return Err(ModulesError::Signature(file_name)) };
    Ok(Module { file_name, image: stripped.to_vec() })
}

fn read_text(path: &Path) -> Result<String, ModulesError> {
    fs::read_to_string(path).map_err(|source| ModulesError::Read { path: path.to_owned(), source })
}

/// What `modules.dep` and `modules.builtin` say.
#[derive(Debug)]
struct Index {
    /// Path of a module by its name.
    paths: BTreeMap<String, String>,
    /// Paths that a path depends on.
    needs: BTreeMap<String, Vec<String>>,
    /// Names that the kernel has inside.
    builtin: BTreeSet<String>,
}

impl Index {
    fn parse(dep: &str, builtin: &str) -> Result<Index, ModulesError> {
        let mut index = Index {
            paths: BTreeMap::new(),
            needs: BTreeMap::new(),
            builtin: builtin.lines().map(name).collect(),
        };
        for line in dep.lines() {
            let (path, needs) =
                line.split_once(':').ok_or_else(|| ModulesError::Malformed(line.to_owned()))?;
            index.paths.insert(name(path), path.to_owned());
            index.needs.insert(path.to_owned(), needs.split_whitespace().map(str::to_owned).collect());
        }
        Ok(index)
    }

    /// Paths of the wanted modules, each after everything it depends on and none twice.
    fn insertion_order(&self, wanted: &[&str]) -> Result<Vec<&str>, ModulesError> {
        let mut order = Order { index: self, seen: BTreeSet::new(), paths: Vec::new() };
        for wanted in wanted {
            match self.paths.get(*wanted) {
                Some(path) => order.add(path),
                None if self.builtin.contains(*wanted) => {}
                None => return Err(ModulesError::Unknown((*wanted).to_owned())),
            }
        }
        Ok(order.paths)
    }
}

struct Order<'a> {
    index: &'a Index,
    seen: BTreeSet<&'a str>,
    paths: Vec<&'a str>,
}

impl<'a> Order<'a> {
    fn add(&mut self, path: &'a str) {
        // Marked before its dependencies are visited, so that even a cycle would end.
        if !self.seen.insert(path) {
            return;
        }
        // modules.dep lists the nearest dependency first, and what that one needs after it (modules.dep(5)).
        for need in self.index.needs.get(path).into_iter().flatten().rev() {
            self.add(need);
        }
        self.paths.push(path);
    }
}

/// The module's name: its file name up to the first dot, with `_` for `-` as the kernel has it.
fn name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

/// The module without its appended signature, which costs a third of the time of loading it under emulation and which
/// a kernel that does not enforce signatures need not see. `None` when the signature's length cannot be true.
fn without_signature(module: &[u8]) -> Option<&[u8]> {
    let Some(signed) = module.strip_suffix(SIGNATURE_MAGIC) else { return Some(module) };
    let info_at = signed.len().checked_sub(SIGNATURE_INFO_LEN)?;
    let len = u32::from_be_bytes(signed[signed.len() - 4..].try_into().ok()?);
    signed.get(..info_at.checked_sub(len as usize)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "\
kernel/virtio/virtio.ko:
kernel/virtio/virtio_ring.ko: kernel/virtio/virtio.ko
kernel/virtio/virtio_pci.ko: kernel/virtio/virtio_ring.ko kernel/virtio/virtio.ko
kernel/block/virtio_blk.ko: kernel/virtio/virtio_ring.ko kernel/virtio/virtio.ko
kernel/crypto/crc32c-intel.ko:
kernel/loop.ko.xz:
";

    fn order(wanted: &[&str]) -> Result<Vec<String>, ModulesError> {
        let index = Index::parse(DEP, "kernel/fs/fuse/fuse.ko\n").unwrap();
        Ok(index.insertion_order(wanted)?.into_iter().map(name).collect())
    }

    #[test]
    fn a_module_comes_after_what_it_needs_and_none_comes_twice() {
        assert_eq!(
            order(&["virtio_blk", "virtio_pci", "virtio_blk"]).unwrap(),
            ["virtio", "virtio_ring", "virtio_blk", "virtio_pci"]
        );
    }

    #[test]
    fn a_built_in_module_is_skipped() {
        assert_eq!(order(&["fuse", "virtio"]).unwrap(), ["virtio"]);
    }

    #[test]
    fn a_name_is_found_whatever_dash_its_file_has() {
        assert_eq!(order(&["crc32c_intel"]).unwrap(), ["crc32c_intel"]);
    }

    #[test]
    fn an_unknown_module_is_named() {
        assert!(matches!(order(&["nosuch"]), Err(ModulesError::Unknown(name)) if name == "nosuch"));
    }

    #[test]
    fn a_compressed_module_is_refused() {
        assert!(matches!(load(Path::new("/"), "kernel/loop.ko.xz"), Err(ModulesError::Compressed(_))));
    }

    #[test]
    fn the_loopback_of_vsock_is_never_wanted() {
        assert!(!LISTENING.iter().chain(&OTHERS).any(|name| *name == "vsock_loopback"));
    }

    #[test]
    fn an_appended_signature_is_stripped() {
        let mut signed = b"elf".to_vec();
        signed.extend(b"signature");
        signed.extend([0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
        signed.extend(SIGNATURE_MAGIC);
        assert_eq!(without_signature(&signed), Some(&b"elf"[..]));
    }

    #[test]
    fn a_module_without_signature_stays_as_it_is() {
        assert_eq!(without_signature(b"elf"), Some(&b"elf"[..]));
    }

    #[test]
    fn a_signature_longer_than_the_file_is_refused() {
        let mut signed = vec![0xff; SIGNATURE_INFO_LEN];
        signed.extend(SIGNATURE_MAGIC);
        assert_eq!(without_signature(&signed), None);
        assert_eq!(without_signature(SIGNATURE_MAGIC), None);
    }
}
