//! The `net.*` settings of the kernel: their names, their values, and the files they are. No other settings.

use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use super::types::{Invalid, LinkName};

/// Longest name: deeper ones than `net/ipv4/conf/<interface>/<name>` are few.
const NAME_MAX: usize = 128;
/// Longest value; the kernel's longest is a list of ports.
const VALUE_MAX: usize = 1024;

/// The name of a setting, as a path beneath /proc/sys that begins with `net/` and only goes down.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SysctlName(String);

impl SysctlName {
    /// As sysctl(8) takes it: the first `.` or `/` says which of them separates; the other is then part of a name, such
    /// as that of an interface.
    pub fn parse(text: &str) -> Result<SysctlName, Invalid> {
        let dots_separate = text.find(['.', '/']).is_some_and(|place| text[place..].starts_with('.'));
        let swap = |c: char| match c {
            '.' => '/',
            '/' => '.',
            other => other,
        };
        let path: String = if dots_separate { text.chars().map(swap).collect() } else { text.to_owned() };
        let sound = |part: &str| !part.is_empty() && part != "." && part != "..";
        let parts = path.split('/');
        let below_net = path.starts_with("net/") && parts.clone().count() > 2 && parts.clone().all(sound);
        match below_net && path.len() <= NAME_MAX && path.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(SysctlName(path)),
            false => Err(Invalid { what: "name of a net.* sysctl", text: text.chars().take(64).collect() }),
        }
    }

    /// A setting of one interface for IPv6.
    pub fn of_ipv6(link: &LinkName, setting: &str) -> SysctlName {
        SysctlName(format!("net/ipv6/conf/{link}/{setting}"))
    }

    fn path(&self) -> PathBuf {
        Path::new("/proc/sys").join(&self.0)
    }

    /// The value; none if there is no such setting, or it cannot be read.
    pub fn read(&self) -> Option<String> {
        fs::read_to_string(self.path()).ok()
    }

    /// # Errors
    /// Those of open(2) and write(2): `NotFound` for an unknown name, `InvalidInput` for a value that is refused.
    pub fn write(&self, value: &str) -> io::Result<()> {
        // Never made: /proc has no files but the kernel's.
        let mut file = fs::OpenOptions::new().write(true).open(self.path())?;
        io::Write::write_all(&mut file, value.as_bytes())
    }
}

impl fmt::Display for SysctlName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value that is to be set: one line.
pub fn parse_value(text: &str) -> Result<String, Invalid> {
    match text.len() <= VALUE_MAX && !text.contains(['\n', '\0']) {
        true => Ok(text.to_owned()),
        false => Err(Invalid { what: "value of a sysctl", text: text.chars().take(64).collect() }),
    }
}

/// Whether two values are the same: the kernel shows lists with tabs in them.
pub fn same_value(one: &str, other: &str) -> bool {
    one.split_whitespace().eq(other.split_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_sysctl_reads_them() {
        for (text, path) in [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("net/ipv4/conf/eth0.100/rp_filter", "net/ipv4/conf/eth0.100/rp_filter"),
            ("net.ipv4.conf.eth0/100.rp_filter", "net/ipv4/conf/eth0.100/rp_filter"),
        ] {
            assert_eq!(SysctlName::parse(text).unwrap().to_string(), path);
        }
    }

    #[test]
    fn what_is_not_below_net_is_refused() {
        for bad in [
            "",
            "net",
            "net.x",
            "kernel.panic",
            "/net/ipv4/x",
            "net/../kernel/panic",
            "net/ipv4/..",
            "net/ipv4//x",
            "net.ipv4.//.x",
            "net/./x",
            "net/ipv4/a b",
            "netx/ipv4/x",
        ] {
            assert!(SysctlName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_list_is_the_same_with_tabs() {
        assert!(same_value("4096 131072 6291456", "4096\t131072\t6291456\n"));
        assert!(!same_value("1", "0\n"));
    }
}
