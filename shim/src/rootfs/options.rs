//! Mount options in the style of fstab, as mount(2) wants them, for the few file systems that the host mounts. Never
//! mounts.

use std::fs::File;
use std::path::Path;

use nix::mount::MsFlags;

use super::error::{step, RootfsError};
use super::source::name;
use super::tree::open_place;

/// One page less the byte that ends the string. mount(2) cuts off the rest without a word.
const DATA_MAX: usize = 4095;
const LAYERS: &str = "lowerdir=";

/// Options that set flags (mount(8), "filesystem-independent mount options").
const SET: [(&str, MsFlags); 12] = [
    ("ro", MsFlags::MS_RDONLY),
    ("bind", MsFlags::MS_BIND),
    ("rbind", MsFlags::MS_BIND.union(MsFlags::MS_REC)),
    ("nosuid", MsFlags::MS_NOSUID),
    ("nodev", MsFlags::MS_NODEV),
    ("noexec", MsFlags::MS_NOEXEC),
    ("noatime", MsFlags::MS_NOATIME),
    ("nodiratime", MsFlags::MS_NODIRATIME),
    ("relatime", MsFlags::MS_RELATIME),
    ("strictatime", MsFlags::MS_STRICTATIME),
    ("sync", MsFlags::MS_SYNCHRONOUS),
    ("dirsync", MsFlags::MS_DIRSYNC),
];

/// Options that clear what an earlier one has set.
const CLEAR: [(&str, MsFlags); 11] = [
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
    ("nodirsync", MsFlags::MS_DIRSYNC),
];

/// How the root propagates is the share's affair.
const PROPAGATION: [&str; 8] =
    ["shared", "rshared", "slave", "rslave", "private", "rprivate", "unbindable", "runbindable"];

/// Words of containerd that no file system knows: mapped ids, loop devices, and what a prefix of the type would take.
const UNSUPPORTED: [&str; 4] = ["uidmap=", "gidmap=", "X-containerd.", "loop"];

/// What the options of one mount mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) flags: MsFlags,
    /// For the file system to read.
    pub(super) data: String,
}

impl Options {
    pub(super) fn parse(kind: &str, options: &[String]) -> Result<Options, RootfsError> {
        let flags = if kind == "bind" { MsFlags::MS_BIND } else { MsFlags::empty() };
        let mut parsed = Options { flags, data: String::new() };
        for option in options.iter().flat_map(|entry| entry.split(',')).filter(|option| !option.is_empty()) {
            parsed.add(option)?;
        }
        Ok(parsed)
    }

    fn add(&mut self, option: &str) -> Result<(), RootfsError> {
        if let Some(flags) = find(&SET, option) {
            self.flags |= flags;
        } else if let Some(flags) = find(&CLEAR, option) {
            self.flags -= flags;
        } else if UNSUPPORTED.iter().any(|word| option.starts_with(word)) {
            return Err(RootfsError::MountOption(option.to_owned()));
        } else if !PROPAGATION.contains(&option) {
            let comma = if self.data.is_empty() { "" } else { "," };
            self.data.extend([comma, option]);
        }
        Ok(())
    }
}

fn find(table: &[(&str, MsFlags)], option: &str) -> Option<MsFlags> {
    table.iter().find(|(name, _)| *name == option).map(|(_, flags)| *flags)
}

/// Options that fit a page.
#[derive(Debug)]
pub(super) struct Data {
    pub(super) text: String,
    /// What the text names by descriptors, which have to be open when it is used.
    _layers: Vec<File>,
}

impl Data {
    /// Leaves `text` as it is if it fits. If it does not, an overlay's layers are opened and named by their
    /// descriptors, which is good for 200 of them. Their common directory would make shorter names, but going there
    /// would take a thread of its own.
    pub(super) fn fit(text: String) -> Result<Data, RootfsError> {
        let length = text.len();
        if length <= DATA_MAX {
            return Ok(Data { text, _layers: Vec::new() });
        }
        let mut layers = Vec::new();
        let mut short = Vec::new();
        for option in text.split(',') {
            short.push(match option.strip_prefix(LAYERS) {
                // An escaped colon does not end a path, and an empty one begins the layers that have only data.
                Some(paths) if !paths.contains('\\') && !paths.contains("::") => {
                    by_descriptor(paths, &mut layers)?
                }
                _ => option.to_owned(),
            });
        }
        match short.join(",") {
            text if text.len() <= DATA_MAX => Ok(Data { text, _layers: layers }),
            _ => Err(RootfsError::OptionsTooLong(length)),
        }
    }
}

fn by_descriptor(paths: &str, layers: &mut Vec<File>) -> Result<String, RootfsError> {
    let mut names = Vec::new();
    for path in paths.split(':').map(Path::new) {
        let layer = open_place(path).map_err(step("open the layer", path))?;
        names.push(name(&layer).display().to_string());
        layers.push(layer);
    }
    Ok(format!("{LAYERS}{}", names.join(":")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(kind: &str, options: &[&str]) -> Result<Options, RootfsError> {
        Options::parse(kind, &options.iter().map(|option| option.to_string()).collect::<Vec<_>>())
    }

    fn check(kind: &str, options: &[&str], flags: MsFlags, data: &str) {
        assert_eq!(parse(kind, options).unwrap(), Options { flags, data: data.into() }, "{kind} {options:?}");
    }

    #[test]
    fn options_become_flags_and_data() {
        use MsFlags as F;
        check("overlay", &[], F::empty(), "");
        check("overlay", &["index=off", "lowerdir=/a:/b"], F::empty(), "index=off,lowerdir=/a:/b");
        check("overlay", &["ro,nosuid", "userxattr"], F::MS_RDONLY | F::MS_NOSUID, "userxattr");
        check("overlay", &["ro", "rw", "relatime"], F::MS_RELATIME, "");
        check("bind", &["ro"], F::MS_BIND | F::MS_RDONLY, "");
        check("none", &["rbind", "rprivate"], F::MS_BIND | F::MS_REC, "");
    }

    #[test]
    fn what_only_containerd_knows_is_refused() {
        for option in ["uidmap=0:1:1", "gidmap=0:1:1", "X-containerd.mkdir.path=/a", "loop"] {
            let text = parse("overlay", &[option]).unwrap_err().to_string();
            assert!(text.contains(option), "{text}");
        }
    }

    #[test]
    fn what_fits_a_page_is_left_alone_and_what_cannot_be_made_to_fit_is_refused() {
        let long = "x".repeat(DATA_MAX);
        assert_eq!(Data::fit(long.clone()).unwrap().text, long);
        for text in [format!("{long}y"), format!("lowerdir=/a\\:{long}:/tmp"), format!("lowerdir=/a::{long}")]
        {
            let refused = Data::fit(text.clone()).unwrap_err();
            assert!(
                matches!(refused, RootfsError::OptionsTooLong(length) if length == text.len()),
                "{refused}"
            );
        }
    }
}
