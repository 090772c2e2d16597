//! Kernel settings: their names as sysctl(8) takes them, and the files beneath `/proc/sys` that they are.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Longest name: deeper ones than `net/ipv4/conf/<interface>/<name>` are few.
const NAME_MAX: usize = 128;

/// Where the settings are.
const ROOT: &str = "/proc/sys";

/// The name of a setting, as a path beneath `/proc/sys` that only goes down.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// The first `.` or `/` says which of them separates; the other is then part of a name, such as that of an interface:
    /// `net.ipv4.conf.eth0/100.forwarding` is that of `eth0.100`.
    pub fn parse(text: &str) -> Option<Name> {
        let dots_separate = text.find(['.', '/']).is_some_and(|place| text[place..].starts_with('.'));
        let turned = |c: char| match c {
            '.' => '/',
            '/' => '.',
            other => other,
        };
        let path: String = if dots_separate { text.chars().map(turned).collect() } else { text.to_owned() };
        let sound = |part: &str| !part.is_empty() && part != "." && part != "..";
        let fits = path.len() <= NAME_MAX && path.bytes().all(|byte| byte.is_ascii_graphic());
        (fits && path.split('/').all(sound)).then_some(Name(path))
    }

    /// With slashes.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value; none if there is no such setting, or it cannot be read.
    pub fn read(&self) -> Option<String> {
        fs::read_to_string(self.beneath(Path::new(ROOT))).ok()
    }

    /// # Errors
    /// Those of open(2) and write(2): `NotFound` for an unknown name, `InvalidInput` for a value that is refused.
    pub fn write(&self, value: &str) -> io::Result<()> {
        self.write_beneath(Path::new(ROOT), value)
    }

    /// A file that is not there is not made: a name that the kernel does not know is an error.
    fn write_beneath(&self, root: &Path, value: &str) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(self.beneath(root))?;
        // As a line: a write of nothing would never come to the kernel.
        file.write_all(format!("{value}\n").as_bytes())
    }

    fn beneath(&self, root: &Path) -> PathBuf {
        root.join(&self.0)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, path: Option<&str>) {
        assert_eq!(Name::parse(text).map(|name| name.to_string()).as_deref(), path, "{text:?}");
    }

    #[test]
    fn a_name_is_a_path_with_dots_or_slashes() {
        check("vm.swappiness", Some("vm/swappiness"));
        check("vm/swappiness", Some("vm/swappiness"));
        check("net.ipv4.conf.eth0/100.forwarding", Some("net/ipv4/conf/eth0.100/forwarding"));
        check("net/ipv4/conf/eth0.100/forwarding", Some("net/ipv4/conf/eth0.100/forwarding"));
    }

    #[test]
    fn a_name_that_climbs_or_is_no_name_is_none() {
        for text in [
            "",
            "..",
            "../x",
            "vm/../../etc/passwd",
            "/etc/passwd",
            ".etc.passwd",
            "vm.//.//.x",
            "vm/\0",
            "a b",
            "a//b",
        ] {
            check(text, None);
        }
        check(&"x".repeat(NAME_MAX + 1), None);
    }

    #[test]
    fn only_what_is_there_is_written() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("vm")).unwrap();
        let name = |text| Name::parse(text).unwrap();
        let known = |value: &str| {
            fs::write(root.path().join("vm/known"), "").unwrap();
            name("vm.known").write_beneath(root.path(), value).unwrap();
            fs::read_to_string(root.path().join("vm/known")).unwrap()
        };
        assert_eq!((known("new").as_str(), known("").as_str()), ("new\n", "\n"));
        let unknown = name("vm.unknown").write_beneath(root.path(), "1").unwrap_err();
        assert_eq!(unknown.kind(), io::ErrorKind::NotFound);
        assert!(!root.path().join("vm/unknown").exists());
    }
}
