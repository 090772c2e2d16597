//! The options of Create and Checkpoint: an `Any` of whichever type the host knows, decoded to what the domain takes.
//! A host may send options that mean nothing to this guest, and its container must start all the same: what cannot be
//! read becomes the defaults and one warning. Only a value that is understood and makes no sense is an error.

use std::path::PathBuf;

use protobuf::well_known_types::any::Any;
use protobuf::Message;
use vminitd_api::containerd::shim::oci;
use vminitd_api::spinbox::SpinboxOpts;
use vminitd_api::type_url;

use super::error::invalid;
use super::{guest_path, type_name};
use crate::io::Owner;
use crate::task::{CgroupsMode, CheckpointOptions, RuntimeOptions};

/// What the options of a Create choose.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    pub runtime: RuntimeOptions,
    pub owner: Owner,
}

/// The options of a Create. INVALID_ARGUMENT for a path that is not absolute or leads upwards.
pub fn chosen(any: Option<&Any>) -> ttrpc::Result<Chosen> {
    match given(any) {
        Some((type_url::RUNC_OPTIONS, any)) => runc_options(decode(any)),
        Some((type_url::SPINBOX_OPTIONS, any)) => Ok(spinbox_options(&decode(any))),
        other => Ok(defaults(other)),
    }
}

/// The options of a Checkpoint. INVALID_ARGUMENT for a path as above, and for a mode of cgroups that runc has not.
pub fn checkpoint(any: Option<&Any>) -> ttrpc::Result<CheckpointOptions> {
    match given(any) {
        Some((type_url::CHECKPOINT_OPTIONS, any)) => checkpoint_options(decode(any)),
        other => Ok(defaults(other)),
    }
}

/// The options that were sent, if any were, with the name of their type.
fn given(any: Option<&Any>) -> Option<(&str, &Any)> {
    let any = any.filter(|any| !any.value.is_empty())?;
    Some((type_name(any), any))
}

fn defaults<T: Default>(unknown: Option<(&str, &Any)>) -> T {
    if let Some((name, _)) = unknown {
        tracing::warn!(r#type = name, "options of an unknown type: the defaults are used");
    }
    T::default()
}

fn decode<M: Message>(any: &Any) -> M {
    M::parse_from_bytes(&any.value).unwrap_or_else(|error| {
        tracing::warn!(r#type = any.type_url, %error, "cannot decode options: the defaults are used");
        M::new()
    })
}

/// Of runc's options these are honoured. The others name the shim's cgroup, another binary or an API of the host's;
/// `criu_image_path` is for a create from a checkpoint, which is not implemented, and a Checkpoint names its own.
fn runc_options(options: oci::Options) -> ttrpc::Result<Chosen> {
    let runtime = RuntimeOptions {
        root: path("root", &options.root)?,
        no_pivot: options.no_pivot_root,
        no_new_keyring: options.no_new_keyring,
        systemd_cgroup: options.systemd_cgroup,
        criu_work_path: path("criu_work_path", &options.criu_work_path)?,
    };
    Ok(Chosen { runtime, owner: Owner { uid: options.io_uid, gid: options.io_gid } })
}

fn spinbox_options(options: &SpinboxOpts) -> Chosen {
    Chosen { owner: Owner { uid: options.io_uid, gid: options.io_gid }, ..Chosen::default() }
}

fn checkpoint_options(options: oci::CheckpointOptions) -> ttrpc::Result<CheckpointOptions> {
    if let Some(name) = options.empty_namespaces.iter().find(|name| name.contains('\0')) {
        return Err(invalid(format_args!("empty_namespaces: {name:?} is no name")));
    }
    Ok(CheckpointOptions {
        exit: options.exit,
        open_tcp: options.open_tcp,
        external_unix_sockets: options.external_unix_sockets,
        terminal: options.terminal,
        file_locks: options.file_locks,
        cgroups_mode: cgroups_mode(&options.cgroups_mode)?,
        image_path: path("image_path", &options.image_path)?,
        work_path: path("work_path", &options.work_path)?,
        empty_namespaces: options.empty_namespaces,
    })
}

fn cgroups_mode(name: &str) -> ttrpc::Result<Option<CgroupsMode>> {
    if name.is_empty() {
        return Ok(None);
    }
    let unknown = || invalid(format_args!("cgroups_mode {name:?} is not soft, full, strict or ignore"));
    CgroupsMode::named(name).map(Some).ok_or_else(unknown)
}

/// A path that may be left out.
fn path(field: &str, text: &str) -> ttrpc::Result<Option<PathBuf>> {
    if text.is_empty() {
        return Ok(None);
    }
    guest_path(field, text).map(Some)
}

#[cfg(test)]
mod tests {
    use super::super::any;
    use super::*;

    fn is_invalid<T>(answer: ttrpc::Result<T>) -> bool {
        matches!(answer, Err(ttrpc::Error::RpcStatus(status)) if status.code() == ttrpc::Code::INVALID_ARGUMENT)
    }

    fn runc() -> oci::Options {
        oci::Options {
            no_pivot_root: true,
            no_new_keyring: true,
            shim_cgroup: "/shim".into(),
            io_uid: 7,
            io_gid: 8,
            binary_name: "crun".into(),
            root: "/run/other".into(),
            systemd_cgroup: true,
            criu_image_path: "relative".into(),
            criu_work_path: "/criu".into(),
            ..Default::default()
        }
    }

    #[test]
    fn runc_options_are_known_by_the_last_segment_of_their_type_url() {
        let expected = Chosen {
            runtime: RuntimeOptions {
                root: Some("/run/other".into()),
                no_pivot: true,
                no_new_keyring: true,
                systemd_cgroup: true,
                criu_work_path: Some("/criu".into()),
            },
            owner: Owner { uid: 7, gid: 8 },
        };
        for prefix in ["", "/", "types.containerd.io/", "type.googleapis.com/a/b/"] {
            let any = any(&format!("{prefix}containerd.runc.v1.Options"), &runc());
            assert_eq!(chosen(Some(&any)).unwrap(), expected, "{prefix}");
        }
    }

    #[test]
    fn of_spinbox_options_only_the_owner_counts() {
        let options =
            SpinboxOpts { boot_cpus: 2, memory_mb: 512, io_uid: 1, io_gid: 2, ..Default::default() };
        let expected = Chosen { owner: Owner { uid: 1, gid: 2 }, ..Chosen::default() };
        assert_eq!(chosen(Some(&any(type_url::SPINBOX_OPTIONS, &options))).unwrap(), expected);
    }

    #[test]
    fn spinbox_options_have_their_numbers_on_the_wire() {
        let options = SpinboxOpts {
            boot_cpus: 1,
            max_cpus: 2,
            memory_mb: 3,
            max_memory_mb: 4,
            io_uid: 7,
            io_gid: 8,
            ..Default::default()
        };
        // A tag is the number times eight, and zero for a varint.
        let wire = [8, 1, 16, 2, 24, 3, 32, 4, 56, 7, 64, 8];
        assert_eq!(options.write_to_bytes().unwrap(), wire);
    }

    #[test]
    fn what_cannot_be_read_becomes_the_defaults() {
        let undecodable =
            Any { type_url: type_url::RUNC_OPTIONS.into(), value: vec![0xff; 3], ..Default::default() };
        let empty = Any { type_url: "no.such.Type".into(), ..Default::default() };
        for any in [None, Some(&undecodable), Some(&empty), Some(&any("no.such.Type", &runc()))] {
            assert_eq!(chosen(any).unwrap(), Chosen::default(), "{any:?}");
            assert_eq!(checkpoint(any).unwrap(), CheckpointOptions::default(), "{any:?}");
        }
    }

    #[test]
    fn a_path_that_is_not_absolute_or_leads_upwards_is_refused() {
        for bad in ["run", "../run", "/run/../etc", "/run/..", "/run\0", " /run"] {
            let root = oci::Options { root: bad.into(), ..Default::default() };
            assert!(is_invalid(chosen(Some(&any(type_url::RUNC_OPTIONS, &root)))), "{bad:?}");
            let criu = oci::Options { criu_work_path: bad.into(), ..Default::default() };
            assert!(is_invalid(chosen(Some(&any(type_url::RUNC_OPTIONS, &criu)))), "{bad:?}");
            let image = oci::CheckpointOptions { image_path: bad.into(), ..Default::default() };
            assert!(is_invalid(checkpoint(Some(&any(type_url::CHECKPOINT_OPTIONS, &image)))), "{bad:?}");
        }
        let dots = oci::Options { root: "/run/..x/...".into(), ..Default::default() };
        assert!(chosen(Some(&any(type_url::RUNC_OPTIONS, &dots))).is_ok());
    }

    #[test]
    fn a_checkpoint_chooses_all_that_runc_can_do() {
        let options = oci::CheckpointOptions {
            exit: true,
            open_tcp: true,
            external_unix_sockets: true,
            terminal: true,
            file_locks: true,
            empty_namespaces: vec!["network".into()],
            cgroups_mode: "full".into(),
            image_path: "/image".into(),
            work_path: "/criu".into(),
            ..Default::default()
        };
        let expected = CheckpointOptions {
            exit: true,
            open_tcp: true,
            external_unix_sockets: true,
            terminal: true,
            file_locks: true,
            empty_namespaces: vec!["network".into()],
            cgroups_mode: Some(CgroupsMode::Full),
            image_path: Some("/image".into()),
            work_path: Some("/criu".into()),
        };
        assert_eq!(checkpoint(Some(&any(type_url::CHECKPOINT_OPTIONS, &options))).unwrap(), expected);
    }

    #[test]
    fn a_checkpoint_that_makes_no_sense_is_refused() {
        let mode = oci::CheckpointOptions { cgroups_mode: "hard".into(), ..Default::default() };
        assert!(is_invalid(checkpoint(Some(&any(type_url::CHECKPOINT_OPTIONS, &mode)))));
        let namespace = oci::CheckpointOptions { empty_namespaces: vec!["a\0".into()], ..Default::default() };
        assert!(is_invalid(checkpoint(Some(&any(type_url::CHECKPOINT_OPTIONS, &namespace)))));
    }
}
