//! What the runtime says of itself, to containerd and to people. Owns the names; knows of no task.

use protobuf::{Message, MessageField};
use vminitd_api::containerd::types::introspection::{RuntimeInfo, RuntimeVersion};

use super::mounts;

/// The runtime's name, as `ctr run --runtime` takes it.
pub const RUNTIME: &str = "io.containerd.vminit.v1";

/// The answer to `-info`: a containerd.types.RuntimeInfo.
pub fn info() -> Vec<u8> {
    let version = RuntimeVersion { version: env!("CARGO_PKG_VERSION").to_string(), ..Default::default() };
    let info = RuntimeInfo {
        name: RUNTIME.to_string(),
        version: MessageField::some(version),
        annotations: [(mounts::ANNOTATION.to_string(), mounts::annotation())].into(),
        ..Default::default()
    };
    info.write_to_bytes().expect("the message has no required fields")
}

/// The answer to `-v`, in the layout of containerd's own shims.
pub fn version(program: &str) -> String {
    format!("{program}:\n  Version:  {}\n", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_names_the_runtime_and_the_mounts_it_takes() {
        let info = RuntimeInfo::parse_from_bytes(&info()).unwrap();
        assert_eq!(info.name, "io.containerd.vminit.v1");
        assert_eq!(info.version.version, env!("CARGO_PKG_VERSION"));
        assert_eq!(info.annotations["containerd.io/runtime-allow-mounts"], "format/*,mkdir/*,erofs,ext4");
    }
}
