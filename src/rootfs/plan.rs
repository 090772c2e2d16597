//! What the mounts of a request mean, all of it known before the first is mounted. Nothing is touched here.

use std::path::{Path, PathBuf};

use super::bundle::Bundle;
use super::mkdir::{self, Directory};
use super::options::Options;
use super::overlay::{self, Data};
use super::template::{self, Earlier};
use super::{Mount, RootfsError};
use crate::sys::mount::MsFlags;

/// An overlay takes 500 layers (OVL_MAX_STACK in the kernel) and little else comes with them.
const MOUNTS_MAX: usize = 512;

/// A mount that was checked and has its place. All paths named `inside` start at the bundle.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) kind: String,
    pub(super) source: String,
    /// Of a source that is a path in the bundle.
    pub(super) source_inside: Option<PathBuf>,
    pub(super) on_loop: bool,
    pub(super) flags: MsFlags,
    pub(super) data: Data,
    /// Flags for further calls, of what mount(2) cannot do in the first.
    pub(super) after: Vec<MsFlags>,
    /// Directories to make before.
    pub(super) directories: Vec<Directory>,
    /// Paths in the options that lie in the bundle, and must really lie there.
    pub(super) named_inside: Vec<PathBuf>,
    /// Where it is by its position.
    pub(super) base_inside: PathBuf,
    /// Where it is mounted: the base, or beneath it.
    pub(super) point_inside: PathBuf,
}

/// Refuses more mounts than there can be.
pub(super) fn count(mounts: &[Mount]) -> Result<(), RootfsError> {
    match mounts.len() <= MOUNTS_MAX {
        true => Ok(()),
        false => Err(RootfsError::invalid("number of mounts", &mounts.len().to_string(), "too many")),
    }
}

/// Finds a place for each of `mounts`: the last at `rootfs`, number `i` of the others at `mounts/<i>`.
pub(super) fn plan(mounts: &[Mount], bundle: &Bundle) -> Result<Vec<Planned>, RootfsError> {
    count(mounts)?;
    let mut room = mkdir::MKDIRS_MAX;
    let mut plan = Vec::with_capacity(mounts.len());
    let mut earlier = Vec::with_capacity(mounts.len());
    for (index, mount) in mounts.iter().enumerate() {
        let base = match index + 1 == mounts.len() {
            true => PathBuf::from("rootfs"),
            false => Path::new("mounts").join(index.to_string()),
        };
        let mut mount = mount.clone();
        let directories = take_prefixes(&mut mount, bundle, &earlier, &mut room)?;
        let planned = read(&mount, base, directories, bundle)?;
        let point = bundle.path().join(&planned.point_inside);
        earlier.push(Earlier { source: mount.source, target: mount.target, point });
        plan.push(planned);
    }
    Ok(plan)
}

/// Does what the prefixes of the type ask for, from left to right, and leaves the type that the kernel knows. Each may
/// stand there once; no type of the kernel's has a `/`. `room` is for how many directories there still is.
fn take_prefixes(
    mount: &mut Mount,
    bundle: &Bundle,
    earlier: &[Earlier],
    room: &mut usize,
) -> Result<Vec<Directory>, RootfsError> {
    let mut directories = None;
    let mut expanded = false;
    while let Some((prefix, kind)) = mount.kind.split_once('/') {
        let kind = kind.to_owned();
        match prefix {
            "format" if !expanded => {
                template::expand(mount, earlier)?;
                expanded = true;
            }
            "mkdir" if directories.is_none() => {
                directories = Some(mkdir::take(&mut mount.options, bundle, room)?);
            }
            _ => return Err(RootfsError::Unsupported { what: "mount type", value: mount.kind.clone() }),
        }
        mount.kind = kind;
    }
    Ok(directories.unwrap_or_default())
}

fn read(
    mount: &Mount,
    base_inside: PathBuf,
    directories: Vec<Directory>,
    bundle: &Bundle,
) -> Result<Planned, RootfsError> {
    let options = Options::parse(&mount.kind, &mount.options)?;
    let is_path = options.on_loop || options.flags.contains(MsFlags::MS_BIND);
    let source_inside = if is_path { bundle.inside(&mount.source)? } else { None };
    let named = if mount.kind == "overlay" { options.data.as_str() } else { "" };
    let named_inside = overlay::paths(named).filter_map(|path| bundle.inside(path).transpose());
    Ok(Planned {
        source_inside,
        named_inside: named_inside.collect::<Result<_, _>>()?,
        point_inside: bundle.beneath(&base_inside, Path::new(&mount.target))?,
        after: options.bind_remount().into_iter().chain(options.propagation).collect(),
        on_loop: options.on_loop,
        flags: options.flags,
        data: Data::fit(&mount.kind, options.data)?,
        kind: mount.kind.clone(),
        source: mount.source.clone(),
        directories,
        base_inside,
    })
}

#[cfg(test)]
mod tests {
    use super::super::bundle::{DEPTH_MAX, PATH_MAX};
    use super::super::mkdir::MKDIRS_MAX;
    use super::*;

    fn mount(kind: &str, source: &str, target: &str) -> Mount {
        Mount { kind: kind.into(), source: source.into(), target: target.into(), options: Vec::new() }
    }

    fn planned(mounts: &[Mount]) -> Result<Vec<Planned>, RootfsError> {
        let folder = tempfile::tempdir().unwrap();
        plan(mounts, &Bundle::open(folder.path()).unwrap())
    }

    #[test]
    fn each_mount_has_its_place_and_later_ones_can_name_it() {
        let mounts = [
            mount("ext4", "/dev/vda", ""),
            mount("format/ext4", "{{ source 0 }}1", "/x/./y/"),
            mount("format/mkdir/tmpfs", "{{ mount 0 }}={{ mount 1 }}", ""),
        ];
        let plan = planned(&mounts).unwrap();
        let points: Vec<_> = plan.iter().map(|planned| planned.point_inside.to_str().unwrap()).collect();
        assert_eq!(points, ["mounts/0", "mounts/1/x/y", "rootfs"]);
        assert_eq!(plan[1].source, "/dev/vda1");
        assert_eq!(plan[2].kind, "tmpfs");
        let named = plan[2].source.split_once('=').unwrap();
        assert!(named.0.ends_with("/mounts/0") && named.1.ends_with("/mounts/1/x/y"), "{named:?}");
    }

    #[test]
    fn mounts_are_counted() {
        let mounts = vec![mount("tmpfs", "t", ""); MOUNTS_MAX + 1];
        assert_eq!(planned(&mounts[1..]).unwrap().len(), MOUNTS_MAX);
        assert!(matches!(planned(&mounts), Err(RootfsError::Invalid { .. })));
    }

    #[test]
    fn paths_are_bounded_in_length_and_in_depth() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = Bundle::open(folder.path()).unwrap();
        // `rootfs` and the two slashes before and after it are part of the path, and so is the byte that ends it.
        let room = PATH_MAX - bundle.path().as_os_str().len() - "/rootfs/".len() - 1;
        let long = |bytes: usize| format!("{}/{}", "x".repeat(bytes / 2), "y".repeat(bytes - bytes / 2 - 1));
        let deep = |levels: usize| vec!["d"; levels - 1].join("/");
        for (target, is_fine) in [
            (long(room), true),
            (long(room + 1), false),
            (deep(DEPTH_MAX), true),
            (deep(DEPTH_MAX + 1), false),
            (deep(8_000), false),
            (format!("{}/..", deep(8_000)), false),
        ] {
            let planned = plan(&[mount("tmpfs", "t", &target)], &bundle);
            assert_eq!(planned.is_ok(), is_fine, "{} bytes", target.len());
            assert!(is_fine || matches!(planned, Err(RootfsError::Invalid { .. })), "{planned:?}");
        }
    }

    #[test]
    fn directories_are_counted_over_all_mounts() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = Bundle::open(folder.path()).unwrap();
        let asking = |count: usize| {
            let option = format!("X-containerd.mkdir.path={}/mounts/x", bundle.path().display());
            Mount { options: vec![option; count], ..mount("mkdir/tmpfs", "t", "") }
        };
        let planned = plan(&[asking(MKDIRS_MAX - 1), asking(1)], &bundle).unwrap();
        assert_eq!(planned.iter().map(|planned| planned.directories.len()).sum::<usize>(), MKDIRS_MAX);
        let refused = plan(&[asking(MKDIRS_MAX - 1), asking(2)], &bundle);
        assert!(matches!(refused, Err(RootfsError::Invalid { .. })), "{refused:?}");
    }

    #[test]
    fn what_mounts_may_grow_to_is_bounded_however_they_name_each_other() {
        let mut mounts = vec![mount("tmpfs", "doubled", "")];
        mounts.extend((0..60).map(|n| mount("format/tmpfs", &format!("{{{{ source {n} }}}}").repeat(2), "")));
        assert!(matches!(planned(&mounts), Err(RootfsError::Invalid { .. })));
    }
}
