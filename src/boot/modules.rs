//! Loading the kernel modules the image was built with.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::Boot;
use crate::sys::module;

/// One path per line, relative to the folder and in the order to load; whoever builds the image solves the
/// dependencies. Up to the first empty line are those that listening needs; without such a line all of them are.
const ORDER: &str = "load.order";

/// Loads what listening needs.
pub(super) fn load_to_listen(boot: &mut Boot<'_>, folder: &Path) {
    let order = order(boot, folder);
    load(boot, folder, halves(&order).0);
}

/// Loads all others.
pub(super) fn load_others(boot: &mut Boot<'_>, folder: &Path) {
    let order = order(boot, folder);
    load(boot, folder, halves(&order).1);
}

/// What is listed. Without the file there are no modules, which is fine: all may be built in.
fn order(boot: &mut Boot<'_>, folder: &Path) -> String {
    match fs::read_to_string(folder.join(ORDER)) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        order => boot.attempt(ORDER, order).unwrap_or_default(),
    }
}

/// What is before the first empty line, and what is behind it.
fn halves(order: &str) -> (Vec<&str>, Vec<&str>) {
    let mut lines = order.lines().map(str::trim);
    let first = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    (first, lines.filter(|line| !line.is_empty()).collect())
}

fn load(boot: &mut Boot<'_>, folder: &Path, paths: Vec<&str>) {
    for path in paths {
        if !boot.booting.goes_on() {
            return;
        }
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
        assert_eq!(failures_of(|boot| load_to_listen(boot, folder.path())), 0);
        assert_eq!(failures_of(|boot| load_others(boot, folder.path())), 0);
    }

    #[test]
    fn a_module_that_does_not_load_leaves_the_others_their_turn() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(ORDER), "a.ko\nb.ko\n\n  kernel/c.ko\n").unwrap();
        assert_eq!(failures_of(|boot| load_to_listen(boot, folder.path())), 2);
        assert_eq!(failures_of(|boot| load_others(boot, folder.path())), 1);
    }

    #[test]
    fn the_first_empty_line_ends_what_listening_needs() {
        let check = |order, first: &[&str], others: &[&str]| {
            assert_eq!(halves(order), (first.to_vec(), others.to_vec()), "{order:?}");
        };
        check("", &[], &[]);
        check("a\n b \n", &["a", "b"], &[]);
        check("a\n \nb\n\nc\n", &["a"], &["b", "c"]);
        check("\na\n", &[], &["a"]);
    }
}
