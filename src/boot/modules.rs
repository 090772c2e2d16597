//! Loading the kernel modules the image was built with.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::Boot;
use crate::sys::module;

/// One path per line, relative to the folder and in the order to load; whoever builds the image solves the
/// dependencies.
const ORDER: &str = "load.order";

/// Loads what `load.order` lists. Without the file there are no modules, which is fine: all may be built in.
pub(super) fn load_all(boot: &mut Boot<'_>, folder: &Path) {
    let order = match fs::read_to_string(folder.join(ORDER)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return,
        order => boot.attempt(ORDER, order).unwrap_or_default(),
    };
    for path in order.lines().map(str::trim).filter(|line| !line.is_empty()) {
        boot.attempt(path, module::load(&folder.join(path)));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::failures_of;
    use super::*;

    #[test]
    fn an_image_without_modules_boots_without_complaint() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(failures_of(|boot| load_all(boot, folder.path())), 0);
    }

    #[test]
    fn a_module_that_does_not_load_leaves_the_others_their_turn() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(ORDER), "kernel/a.ko\n\n  kernel/b.ko\n").unwrap();
        assert_eq!(failures_of(|boot| load_all(boot, folder.path())), 2);
    }
}
