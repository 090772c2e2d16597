//! The directories that a mount of type `mkdir/…` asks for. Pure; `bundle` makes them.

use std::path::{Path, PathBuf};

use super::bundle::{Bundle, NewDir};
use super::RootfsError;

const OPTION: &str = "X-containerd.mkdir.";

/// Directories that one request may ask for: two for each of a hundred layers, and room. Each costs up to a path of
/// memory for as long as its container is there, and the kernel some kilobytes for all above it.
pub(super) const MKDIRS_MAX: usize = 256;

/// A directory to make in the bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directory {
    /// Its path from the bundle, which begins with `mounts`.
    pub(super) inside: PathBuf,
    pub(super) new: NewDir,
}

/// Takes the options for `mkdir/` out of `options` and reads them, in order. `room` is for how many there still is.
pub(super) fn take(
    options: &mut Vec<String>,
    bundle: &Bundle,
    room: &mut usize,
) -> Result<Vec<Directory>, RootfsError> {
    let (ours, others): (Vec<_>, _) =
        std::mem::take(options).into_iter().partition(|option| option.starts_with(OPTION));
    *options = others;
    *room = room.checked_sub(ours.len()).ok_or_else(|| {
        RootfsError::invalid("number of directories to make", &ours.len().to_string(), "too many")
    })?;
    ours.iter().map(|option| read(option, bundle)).collect()
}

/// Reads `X-containerd.mkdir.path=PATH[:octal mode[:uid[:gid]]]`.
fn read(option: &str, bundle: &Bundle) -> Result<Directory, RootfsError> {
    let Some(value) = option.strip_prefix(OPTION).and_then(|rest| rest.strip_prefix("path=")) else {
        return Err(RootfsError::Unsupported { what: "mount option", value: option.to_owned() });
    };
    let bad = |why| RootfsError::invalid("mount option", option, why);
    let mut fields = value.split(':');
    let inside = bundle.inside(fields.next().unwrap_or_default())?.filter(|inside| is_below_mounts(inside));
    let inside = inside.ok_or_else(|| bad("the directory is not beneath the mounts of the bundle"))?;
    let mode =
        fields.next().map_or(Some(0o755), read_mode).ok_or_else(|| bad("the mode is not an octal one"))?;
    let mut id = || {
        fields.next().map(|field| read_id(field).ok_or_else(|| bad("an owner is not a number"))).transpose()
    };
    let new = NewDir { mode, uid: id()?, gid: id()? };
    match fields.next() {
        None => Ok(Directory { inside, new }),
        Some(_) => Err(bad("there is more than a path, a mode, a uid and a gid")),
    }
}

fn is_below_mounts(inside: &Path) -> bool {
    inside.starts_with("mounts") && inside != Path::new("mounts")
}

fn read_mode(text: &str) -> Option<u32> {
    number(text, 8).filter(|mode| *mode <= 0o7777)
}

/// The highest number is no owner: to chown(2) it means none.
fn read_id(text: &str) -> Option<u32> {
    number(text, 10).filter(|id| *id != u32::MAX)
}

/// Digits alone: Rust would take a sign as well.
fn number(text: &str, radix: u32) -> Option<u32> {
    if text.starts_with('+') {
        return None;
    }
    u32::from_str_radix(text, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::super::bundle::{DEPTH_MAX, PATH_MAX};
    use super::*;

    fn parse(option: &str) -> Result<Directory, RootfsError> {
        let folder = tempfile::tempdir().unwrap();
        let bundle = Bundle::open(folder.path()).unwrap();
        let option = option.replace("BUNDLE", bundle.path().to_str().unwrap());
        let mut options = vec!["ro".to_owned(), option, "rw".to_owned()];
        let mut read = take(&mut options, &bundle, &mut 1)?;
        assert_eq!(options, ["ro", "rw"]);
        assert_eq!(read.len(), 1);
        Ok(read.remove(0))
    }

    #[test]
    fn a_directory_has_a_path_a_mode_and_an_owner() {
        let check = |value: &str, inside: &str, mode, uid, gid| {
            let expected = Directory { inside: inside.into(), new: NewDir { mode, uid, gid } };
            assert_eq!(parse(&format!("X-containerd.mkdir.path={value}")).unwrap(), expected, "{value}");
        };
        check("BUNDLE/mounts/1/upper", "mounts/1/upper", 0o755, None, None);
        check("BUNDLE//mounts/./1/", "mounts/1", 0o755, None, None);
        check("BUNDLE/mounts/1/a:700", "mounts/1/a", 0o700, None, None);
        check("BUNDLE/mounts/1/a:01777:65534", "mounts/1/a", 0o1777, Some(65534), None);
        check("BUNDLE/mounts/1/a:0:0:7", "mounts/1/a", 0, Some(0), Some(7));
    }

    #[test]
    fn the_bundle_may_be_named_as_the_request_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::fs::create_dir(folder.path().join("bundle")).unwrap();
        std::os::unix::fs::symlink("bundle", &link).unwrap();
        let bundle = Bundle::open(&link).unwrap();
        for named in [bundle.path(), link.as_path()] {
            let mut options = vec![format!("X-containerd.mkdir.path={}/mounts/x", named.display())];
            assert_eq!(take(&mut options, &bundle, &mut 1).unwrap()[0].inside, Path::new("mounts/x"));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for value in [
            "",
            "relative",
            "/etc/x",
            "BUNDLE",
            "BUNDLE/mounts",
            "BUNDLE/mounts/",
            "BUNDLE/rootfs/x",
            "BUNDLE/mounts2/x",
            "BUNDLE-else/mounts/x",
            "BUNDLE/mounts/../../x",
            "BUNDLE/mounts/1/..",
            "/../BUNDLE/mounts/1",
            "BUNDLE/mounts/1:",
            "BUNDLE/mounts/1:8",
            "BUNDLE/mounts/1:10000",
            "BUNDLE/mounts/1:-1",
            "BUNDLE/mounts/1:+755",
            "BUNDLE/mounts/1:755:",
            "BUNDLE/mounts/1:755:root",
            "BUNDLE/mounts/1:755:4294967295",
            "BUNDLE/mounts/1:755:1:99999999999",
            "BUNDLE/mounts/1:755:1:1:1",
        ] {
            let refused = parse(&format!("X-containerd.mkdir.path={value}"));
            assert!(
                matches!(refused, Err(RootfsError::Invalid { .. } | RootfsError::Escape { .. })),
                "{value}: {refused:?}"
            );
        }
        for path in ["/d".repeat(DEPTH_MAX), format!("/{}", "x".repeat(PATH_MAX))] {
            let refused = parse(&format!("X-containerd.mkdir.path=BUNDLE/mounts{path}"));
            assert!(matches!(refused, Err(RootfsError::Invalid { .. })), "{refused:?}");
        }
        for option in ["X-containerd.mkdir.", "X-containerd.mkdir.mode=0", "X-containerd.mkdir.paths=/x"] {
            assert!(matches!(parse(option), Err(RootfsError::Unsupported { .. })), "{option}");
        }
    }
}
