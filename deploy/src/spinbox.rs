//! What lies where in the initrd of a spinbox install. The layout is that host's: `/init`, the OCI runtime in `/sbin`,
//! empty folders, nothing of what the kernel itself puts into a root (`/dev`, `/dev/console`). One file is added: it
//! tells the guest in whose image it is, since that host passes ports but no profile.

use std::path::PathBuf;

use crate::cpio::Tree;
use crate::initrd::{self, InitrdError};

/// The empty folders.
const FOLDERS: [&str; 6] = ["bin", "lib/modules", "proc", "run", "sys", "tmp"];

/// Where PID 1 looks for its configuration.
const CONFIG: &str = "etc/vminitd.json";

/// The files that make such an initrd.
#[derive(Debug, Default)]
pub struct Inputs {
    /// The static guest binary, which becomes `/init`.
    pub init: PathBuf,
    /// The OCI runtime: its path in the image, without the first slash, and the file that goes there.
    pub runtime: (String, PathBuf),
    /// Folders with libraries of the runtime that this machine has not installed.
    pub libraries: Vec<PathBuf>,
}

/// Builds the initrd as bytes, not yet compressed.
pub fn build(inputs: &Inputs) -> Result<Vec<u8>, InitrdError> {
    let mut tree = Tree::default();
    for folder in FOLDERS {
        tree.directory(folder);
    }
    let (at, runtime) = &inputs.runtime;
    tree.file("init", 0o755, initrd::read(&inputs.init)?);
    initrd::add_program(&mut tree, at, runtime, &inputs.libraries)?;
    tree.file(CONFIG, 0o644, config(at).into_bytes());
    initrd::archive(&tree)
}

/// Selects the profile, and the one runtime that is there.
fn config(runtime: &str) -> String {
    format!("{{\"host\": \"spinbox\", \"runtime\": \"/{runtime}\"}}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Names of the members of an archive, by its headers of 13 fields (Linux,
    /// Documentation/driver-api/early-userspace/buffer-format.rst).
    fn names(archive: &[u8]) -> Vec<String> {
        let field = |header: &[u8], n: usize| {
            let digits = std::str::from_utf8(&header[6 + 8 * n..14 + 8 * n]).unwrap();
            usize::from_str_radix(digits, 16).unwrap()
        };
        let (mut names, mut rest) = (Vec::new(), archive);
        while !rest.is_empty() {
            let (size, name_size) = (field(rest, 6), field(rest, 11));
            names.push(String::from_utf8(rest[110..110 + name_size - 1].to_vec()).unwrap());
            let end = (110 + name_size).next_multiple_of(4) + size.next_multiple_of(4);
            rest = &rest[end..];
        }
        names
    }

    #[test]
    fn the_image_has_the_layout_of_that_host_and_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let static_program = folder.path().join("crun");
        // An ELF header of no sections: a program that needs nothing.
        let mut elf = vec![0; 64];
        elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        elf[16] = 2;
        elf[18] = 62;
        elf[20] = 1;
        elf[52] = 64;
        fs::write(&static_program, elf).unwrap();
        let init = folder.path().join("vminitd");
        fs::write(&init, "init").unwrap();
        let runtime = ("sbin/crun".to_owned(), static_program);
        let image = build(&Inputs { init, runtime, libraries: Vec::new() }).unwrap();
        let expected = [
            "bin",
            "etc",
            "etc/vminitd.json",
            "init",
            "lib",
            "lib/modules",
            "proc",
            "run",
            "sbin",
            "sbin/crun",
            "sys",
            "tmp",
            "TRAILER!!!",
        ];
        assert_eq!(names(&image), expected);
        let config = b"{\"host\": \"spinbox\", \"runtime\": \"/sbin/crun\"}";
        assert!(image.windows(config.len()).any(|part| part == config));
    }
}
