//! The mounts of a root file system that containerd is to hand over as they are, told in both ways there are. Owns the
//! lists; never mounts.

use protobuf::well_known_types::any::Any;
use protobuf::{CodedOutputStream, Message, MessageField};
use vminitd_api::containerd::bootstrap_api::{BootstrapResult, Extension};

/// Images that become disks of the VM. All the rest, like overlays, containerd activates or the shim mounts on the
/// host.
const TYPES: [&str; 2] = ["erofs", "ext4"];
/// Prefixes of a type that the guest takes: templates, and folders to make.
const TRANSFORMS: [&str; 2] = ["format", "mkdir"];

/// The annotation of RuntimeInfo that containerd from 2.2 on reads; 2.4 warns of it unless there is the extension.
pub(super) const ANNOTATION: &str = "containerd.io/runtime-allow-mounts";

/// BootstrapResult.extensions, and the message for it. They are of containerd 2.4 (api 1.12, runtime/bootstrap/v1 and
/// types/mount.proto), which containerd-shim-protos 0.12 does not have; earlier ones skip the field.
const EXTENSIONS_FIELD: u32 = 6;
const CAPABILITIES: &str = "type.googleapis.com/containerd.types.MountCapabilities";
const CAPABILITIES_TYPES_FIELD: u32 = 1;
const CAPABILITIES_TRANSFORMS_FIELD: u32 = 2;

/// The value of [`ANNOTATION`].
pub(super) fn annotation() -> String {
    let transforms = TRANSFORMS.map(|name| format!("{name}/*"));
    [transforms.join(","), TYPES.join(",")].join(",")
}

/// Says the same in the reply of `start`.
pub(super) fn extend(result: &mut BootstrapResult) {
    let value = capabilities().expect("writing to memory does not fail");
    let any = Any { type_url: CAPABILITIES.to_string(), value, ..Default::default() };
    let extension = Extension { value: MessageField::some(any), ..Default::default() };
    let bytes = extension.write_to_bytes().expect("the message has no required fields");
    result.special_fields.mut_unknown_fields().add_length_delimited(EXTENSIONS_FIELD, bytes);
}

fn capabilities() -> protobuf::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut message = CodedOutputStream::vec(&mut bytes);
    for name in TYPES {
        message.write_string(CAPABILITIES_TYPES_FIELD, name)?;
    }
    for name in TRANSFORMS {
        message.write_string(CAPABILITIES_TRANSFORMS_FIELD, name)?;
    }
    message.flush()?;
    drop(message);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_say_the_same() {
        assert_eq!(annotation(), "format/*,mkdir/*,erofs,ext4");
        assert_eq!(capabilities().unwrap(), b"\x0a\x05erofs\x0a\x04ext4\x12\x06format\x12\x05mkdir");
    }
}
