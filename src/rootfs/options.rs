//! Mount options in the style of fstab, as mount(2) wants them. Pure.

use super::RootfsError;
use crate::sys::mount::MsFlags;

/// What the options of one mount mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) flags: MsFlags,
    /// How the mount propagates, which takes a call of its own.
    pub(super) propagation: Option<MsFlags>,
    /// Whether the source is a file, to be attached to a loop device.
    pub(super) on_loop: bool,
    /// What is left, for the file system to read.
    pub(super) data: String,
}

const REC: MsFlags = MsFlags::MS_REC;

/// Options that set flags (mount(8), "filesystem-independent mount options").
const SET: [(&str, MsFlags); 14] = [
    ("ro", MsFlags::MS_RDONLY),
    ("bind", MsFlags::MS_BIND),
    ("rbind", MsFlags::MS_BIND.union(REC)),
    ("nosuid", MsFlags::MS_NOSUID),
    ("nodev", MsFlags::MS_NODEV),
    ("noexec", MsFlags::MS_NOEXEC),
    ("noatime", MsFlags::MS_NOATIME),
    ("nodiratime", MsFlags::MS_NODIRATIME),
    ("relatime", MsFlags::MS_RELATIME),
    ("strictatime", MsFlags::MS_STRICTATIME),
    ("sync", MsFlags::MS_SYNCHRONOUS),
    ("dirsync", MsFlags::MS_DIRSYNC),
    ("mand", MsFlags::MS_MANDLOCK),
    ("remount", MsFlags::MS_REMOUNT),
];

/// Options that clear what an earlier one has set.
const CLEAR: [(&str, MsFlags); 12] = [
    ("defaults", MsFlags::empty()),
    ("rw", MsFlags::MS_RDONLY),
    ("suid", MsFlags::MS_NOSUID),
    ("dev", MsFlags::MS_NODEV),
    ("exec", MsFlags::MS_NOEXEC),
    ("atime", MsFlags::MS_NOATIME),
    ("diratime", MsFlags::MS_NODIRATIME),
    ("norelatime", MsFlags::MS_RELATIME),
    ("nostrictatime", MsFlags::MS_STRICTATIME),
    ("async", MsFlags::MS_SYNCHRONOUS),
    ("nomand", MsFlags::MS_MANDLOCK),
    ("noremount", MsFlags::MS_REMOUNT),
];

const PROPAGATION: [(&str, MsFlags); 8] = [
    ("shared", MsFlags::MS_SHARED),
    ("rshared", MsFlags::MS_SHARED.union(REC)),
    ("slave", MsFlags::MS_SLAVE),
    ("rslave", MsFlags::MS_SLAVE.union(REC)),
    ("private", MsFlags::MS_PRIVATE),
    ("rprivate", MsFlags::MS_PRIVATE.union(REC)),
    ("unbindable", MsFlags::MS_UNBINDABLE),
    ("runbindable", MsFlags::MS_UNBINDABLE.union(REC)),
];

/// Words of containerd that no file system knows: mounts with mapped ids, and what no prefix of the type has taken.
const UNSUPPORTED: [&str; 3] = ["uidmap=", "gidmap=", "X-containerd."];

impl Options {
    /// Reads the options of a mount of type `kind`. An entry may hold several, set apart by commas.
    pub(super) fn parse(kind: &str, options: &[String]) -> Result<Options, RootfsError> {
        let mut parsed =
            Options { flags: MsFlags::empty(), propagation: None, on_loop: false, data: String::new() };
        if kind == "bind" {
            parsed.flags |= MsFlags::MS_BIND;
        }
        for option in options.iter().flat_map(|entry| entry.split(',')).filter(|option| !option.is_empty()) {
            parsed.add(option)?;
        }
        Ok(parsed)
    }

    /// A bind takes the flags of what it shows; to have its own it is mounted again (mount(2), MS_BIND). That changes
    /// the topmost mount alone, and so do containerd and mount(8) with `rbind,ro`.
    pub(super) fn bind_remount(&self) -> Option<MsFlags> {
        let own = self.flags - MsFlags::MS_BIND - REC - MsFlags::MS_REMOUNT;
        let is_fresh_bind =
            self.flags.contains(MsFlags::MS_BIND) && !self.flags.contains(MsFlags::MS_REMOUNT);
        (is_fresh_bind && !own.is_empty()).then_some(own | MsFlags::MS_BIND | MsFlags::MS_REMOUNT)
    }

    fn add(&mut self, option: &str) -> Result<(), RootfsError> {
        if let Some(flags) = find(&SET, option) {
            self.flags |= flags;
        } else if let Some(flags) = find(&CLEAR, option) {
            self.flags -= flags;
        } else if let Some(flags) = find(&PROPAGATION, option) {
            self.propagation = Some(flags);
        } else if option == "loop" {
            self.on_loop = true;
        } else if UNSUPPORTED.iter().any(|prefix| option.starts_with(prefix)) {
            return Err(RootfsError::Unsupported { what: "mount option", value: option.to_owned() });
        } else if option.contains('\0') {
            return Err(RootfsError::invalid("mount option", option, "has a zero byte"));
        } else {
            let comma = if self.data.is_empty() { "" } else { "," };
            self.data.extend([comma, option]);
        }
        Ok(())
    }
}

fn find(table: &[(&str, MsFlags)], option: &str) -> Option<MsFlags> {
    table.iter().find(|(name, _)| *name == option).map(|(_, flags)| *flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(kind: &str, options: &[&str]) -> Result<Options, RootfsError> {
        Options::parse(kind, &options.iter().map(|option| option.to_string()).collect::<Vec<_>>())
    }

    fn check(kind: &str, options: &[&str], flags: MsFlags, propagation: Option<MsFlags>, data: &str) {
        let expected = Options { flags, propagation, on_loop: false, data: data.to_owned() };
        assert_eq!(parse(kind, options).unwrap(), expected, "{kind} {options:?}");
    }

    #[test]
    fn options_become_flags_propagation_and_data() {
        use MsFlags as F;
        check("ext4", &[], F::empty(), None, "");
        check("ext4", &["ro"], F::MS_RDONLY, None, "");
        check("ext4", &["ro", "rw"], F::empty(), None, "");
        check(
            "ext4",
            &["defaults", "noload", "ro", "errors=panic"],
            F::MS_RDONLY,
            None,
            "noload,errors=panic",
        );
        check(
            "tmpfs",
            &["nosuid,nodev", "noexec", "", "size=1m"],
            F::MS_NOSUID | F::MS_NODEV | F::MS_NOEXEC,
            None,
            "size=1m",
        );
        check("bind", &["ro"], F::MS_BIND | F::MS_RDONLY, None, "");
        check("none", &["rbind", "rslave"], F::MS_BIND | REC, Some(F::MS_SLAVE | REC), "");
        check("overlay", &["lowerdir=/a:/b", "upperdir=/c"], F::empty(), None, "lowerdir=/a:/b,upperdir=/c");
    }

    #[test]
    fn every_word_of_containerd_sets_or_clears_its_flag() {
        use MsFlags as F;
        for (set, clear, flag) in [
            ("sync", "async", F::MS_SYNCHRONOUS),
            ("noatime", "atime", F::MS_NOATIME),
            ("nodev", "dev", F::MS_NODEV),
            ("nodiratime", "diratime", F::MS_NODIRATIME),
            ("noexec", "exec", F::MS_NOEXEC),
            ("mand", "nomand", F::MS_MANDLOCK),
            ("relatime", "norelatime", F::MS_RELATIME),
            ("strictatime", "nostrictatime", F::MS_STRICTATIME),
            ("nosuid", "suid", F::MS_NOSUID),
            ("ro", "rw", F::MS_RDONLY),
            ("remount", "noremount", F::MS_REMOUNT),
        ] {
            check("ext4", &[clear, set], flag, None, "");
            check("ext4", &[set, clear], F::empty(), None, "");
        }
        check("ext4", &["dirsync", "defaults"], F::MS_DIRSYNC, None, "");
    }

    #[test]
    fn a_loop_device_is_asked_for_by_its_word() {
        let parsed = parse("ext4", &["loop", "ro", "noload"]).unwrap();
        assert!(parsed.on_loop && parsed.data == "noload");
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for option in ["X-containerd.mkdir.path=/x", "ro,X-containerd.else", "uidmap=0:1:2", "gidmap=0:1:2"] {
            assert!(matches!(parse("ext4", &[option]), Err(RootfsError::Unsupported { .. })), "{option}");
        }
        assert!(matches!(parse("ext4", &["a\0b"]), Err(RootfsError::Invalid { .. })));
    }

    #[test]
    fn only_a_bind_with_flags_of_its_own_is_mounted_again() {
        let again = |kind, options: &[&str]| parse(kind, options).unwrap().bind_remount();
        assert_eq!(again("ext4", &["ro"]), None);
        assert_eq!(again("bind", &["rbind", "rw"]), None);
        assert_eq!(again("bind", &["remount", "ro"]), None);
        let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        assert_eq!(again("bind", &["rbind", "ro"]), Some(read_only));
    }
}
