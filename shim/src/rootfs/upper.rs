//! What an overlay of the guest writes to, when that is in folders of the host: they come into the share, and the guest is
//! told where they are in it. Pure.
//!
//! Upper and work have to be in one mount (Linux, fs/overlayfs/super.c, ovl_get_workdir), and each mount of the host is
//! one in the guest too. So it is the folder that both are in which is shared, with all else in it: of a snapshotter it
//! is that of one snapshot, the container's own.

use std::path::{Path, PathBuf};

use vminitd_api::containerd::api::Mount;

use super::RootfsError;

/// Where in the share that folder is.
pub(super) const FOLDER: &str = "upper";
/// The options that name upper and work.
const WRITTEN: [&str; 2] = ["upperdir", "workdir"];
/// The transform without which the guest replaces no template.
const FORMAT: &str = "format";

/// The same mount with its upper and work in the share, which is the guest's mount number `share`; with the folder that
/// they are in on the host. What else is of the host, or in a mount that has no templates, stays as it is.
///
/// # Errors
/// `Apart`, if they are not in one folder.
pub(super) fn into_share(mount: &Mount, share: usize) -> Result<(Mount, Option<PathBuf>), RootfsError> {
    let (transforms, _) = mount.type_.rsplit_once('/').unwrap_or_default();
    let has_templates = transforms.split('/').any(|name| name == FORMAT);
    let words = mount.options.iter().flat_map(|entry| entry.split(','));
    let mut named = words.filter(|_| has_templates).filter_map(written);
    let Some(Written { folder, path, .. }) = named.next() else { return Ok((mount.clone(), None)) };
    if let Some(other) = named.find(|other| other.folder != folder) {
        return Err(RootfsError::Apart { one: path.into(), other: other.path.into() });
    }
    let place = format!("{{{{ mount {share} }}}}/{FOLDER}");
    let options = mount.options.iter().map(|entry| rewritten(entry, &place)).collect();
    Ok((Mount { options, ..mount.clone() }, Some(folder.to_owned())))
}

fn rewritten(entry: &str, place: &str) -> String {
    let word = |word| match written(word) {
        Some(Written { key, name, .. }) => format!("{key}={place}/{name}"),
        None => String::from(word),
    };
    entry.split(',').map(word).collect::<Vec<_>>().join(",")
}

/// An option that names a folder of the host in another one.
struct Written<'a> {
    key: &'a str,
    path: &'a str,
    folder: &'a Path,
    name: &'a str,
}

fn written(word: &str) -> Option<Written<'_>> {
    let (key, path) =
        word.split_once('=').filter(|(key, path)| WRITTEN.contains(key) && path.starts_with('/'))?;
    let whole = Path::new(path);
    Some(Written { key, path, folder: whole.parent()?, name: whole.file_name()?.to_str()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlay(kind: &str, options: &[&str]) -> Mount {
        let options = options.iter().map(|option| option.to_string()).collect();
        Mount { type_: kind.into(), source: "overlay".into(), options, ..Default::default() }
    }

    fn check(kind: &str, options: &[&str], expected: &[&str], shared: Option<&str>) {
        let (found, folder) = into_share(&overlay(kind, options), 3).unwrap();
        assert_eq!(found.options, expected, "{kind} {options:?}");
        assert_eq!(folder, shared.map(PathBuf::from), "{kind} {options:?}");
    }

    #[test]
    fn upper_and_work_are_in_one_folder_of_the_share() {
        check(
            "format/mkdir/overlay",
            &[
                "workdir=/snapshots/7/work,upperdir=/snapshots/7/fs/",
                "lowerdir={{ overlay 0 2 }}",
                "xino=off",
            ],
            &[
                "workdir={{ mount 3 }}/upper/work,upperdir={{ mount 3 }}/upper/fs",
                "lowerdir={{ overlay 0 2 }}",
                "xino=off",
            ],
            Some("/snapshots/7"),
        );
    }

    #[test]
    fn what_is_the_guests_already_or_cannot_be_named_to_it_stays() {
        for (kind, option) in [
            ("format/mkdir/overlay", "upperdir={{ mount 0 }}/upper"),
            ("format/overlay", "lowerdir=/layer"),
            ("format/overlay", "upperdir=/"),
            ("format/overlay", "upperdir=/snapshots/.."),
            ("format/overlay", "upperdir=here"),
            ("mkdir/overlay", "upperdir=/snapshots/7/fs"),
        ] {
            check(kind, &[option], &[option], None);
        }
    }

    #[test]
    fn folders_that_nothing_holds_together_are_refused_by_name() {
        let apart = overlay("format/overlay", &["upperdir=/a/fs", "workdir=/b/work"]);
        let refused = into_share(&apart, 0).unwrap_err().to_string();
        assert_eq!(refused, "mount the root with /a/fs and /b/work to write to: they are not in one folder");
    }
}
