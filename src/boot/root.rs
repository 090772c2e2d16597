//! A root that `pivot_root` accepts.

use std::fs;
use std::io;
use std::path::Path;

use nix::unistd::{chdir, chroot};

use crate::sys::mount::{is_memory_backed, mount, unmount, MsFlags};

/// Where the root is bound for a moment.
const NEW_ROOT: &str = "/.root";

/// If `/` is an initramfs, binds it onto itself and moves that over `/`.
///
/// The initramfs is the first mount of the kernel and has no parent, which pivot_root(2) asks of the old root
/// (Linux before 7.0). The bind mount has one, and shows the same files; what is mounted already, /proc at most, comes
/// along. All threads of the process move.
pub(super) fn move_off_initramfs() -> io::Result<()> {
    if !is_memory_backed(Path::new("/"))? {
        return Ok(());
    }
    fs::create_dir_all(NEW_ROOT)?;
    mount("/", Path::new(NEW_ROOT), "", MsFlags::MS_BIND | MsFlags::MS_REC, "")?;
    let moved = enter_new_root();
    if moved.is_err() {
        // The first error is the one to tell; a bind that stays does no harm.
        let _ = chdir("/");
        let _ = unmount(Path::new(NEW_ROOT));
    }
    // Seen from the new root it is an empty directory, and harmless if it cannot be removed.
    let _ = fs::remove_dir(NEW_ROOT);
    moved
}

fn enter_new_root() -> io::Result<()> {
    chdir(NEW_ROOT)?;
    mount(".", Path::new("/"), "", MsFlags::MS_MOVE, "")?;
    Ok(chroot(".")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::in_private_mounts;

    #[test]
    fn after_the_move_the_files_are_the_same_and_pivot_root_works() {
        let dir = tempfile::tempdir().unwrap();
        in_private_mounts(|| {
            mount("initramfs", dir.path(), "tmpfs", MsFlags::empty(), "").unwrap();
            fs::write(dir.path().join("file"), "here").unwrap();
            chroot(dir.path()).unwrap();
            chdir("/").unwrap();

            move_off_initramfs().unwrap();

            assert_eq!(fs::read_to_string("/file").unwrap(), "here");
            assert!(!Path::new(NEW_ROOT).exists());
            fs::create_dir("/next").unwrap();
            mount("next", Path::new("/next"), "tmpfs", MsFlags::empty(), "").unwrap();
            nix::unistd::pivot_root("/next", "/next").unwrap();
        });
    }
}
