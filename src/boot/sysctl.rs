//! Kernel settings that the configuration names, written beneath `/proc/sys`.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

use super::Boot;

/// Applies them in order. Each that fails is noted by its name, and the others have their turn.
pub(super) fn apply(boot: &mut Boot<'_>) {
    for (name, value) in &boot.machine.sysctls {
        boot.attempt(name, set(Path::new("/proc/sys"), name, value));
    }
}

fn set(root: &Path, name: &str, value: &str) -> io::Result<()> {
    let file = path_of(name).ok_or(io::ErrorKind::InvalidInput)?;
    // Not made if it is not there: a name that the kernel does not know is an error.
    OpenOptions::new().write(true).open(root.join(file))?.write_all(value.as_bytes())
}

/// The file of a setting; none if the name leads anywhere but down. As sysctl(8) has it, the first dot or slash says
/// which of them separates, and the other one then stands for itself, turned round in a name with dots:
/// `net.ipv4.conf.eth0/100.forwarding` is that of `eth0.100`.
fn path_of(name: &str) -> Option<PathBuf> {
    let dots = name.find(['.', '/']).is_some_and(|at| name[at..].starts_with('.'));
    let turned = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let path: PathBuf =
        if dots { name.chars().map(turned).collect::<String>() } else { name.to_owned() }.into();
    let leads_down = path.components().all(|part| matches!(part, Component::Normal(_)));
    (leads_down && path.components().next().is_some() && !name.contains('\0')).then_some(path)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn check(name: &str, expected: Option<&str>) {
        assert_eq!(path_of(name), expected.map(PathBuf::from), "{name:?}");
    }

    #[test]
    fn a_name_is_a_path_with_dots_or_slashes() {
        check("vm.swappiness", Some("vm/swappiness"));
        check("vm/swappiness", Some("vm/swappiness"));
        check("net.ipv4.conf.eth0/100.forwarding", Some("net/ipv4/conf/eth0.100/forwarding"));
        check("net/ipv4/conf/eth0.100/forwarding", Some("net/ipv4/conf/eth0.100/forwarding"));
    }

    #[test]
    fn a_name_that_climbs_or_is_empty_is_none() {
        for name in
            ["", "..", "../x", "vm/../../etc/passwd", "/etc/passwd", ".etc.passwd", "vm.//.//.x", "vm/\0"]
        {
            check(name, None);
        }
    }

    #[test]
    fn only_what_is_there_is_written() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("vm")).unwrap();
        fs::write(root.path().join("vm/known"), "old").unwrap();
        set(root.path(), "vm.known", "new").unwrap();
        assert_eq!(fs::read_to_string(root.path().join("vm/known")).unwrap(), "new");
        assert_eq!(set(root.path(), "vm.unknown", "1").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(!root.path().join("vm/unknown").exists());
        assert_eq!(set(root.path(), "../x", "1").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
