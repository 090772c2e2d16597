//! What the machines of this host are made of: the file of its administrator, what a container's annotations may choose
//! within it, and the size that follows from a container's limits. It starts nothing, and reads one file.

mod annotations;
mod size;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use annotations::{AnnotationError, Choice};
pub use size::Size;

/// Where the file is. Without one the defaults hold.
pub const FILE: &str = "/etc/vminit/config.toml";

/// Where the install script puts what a machine boots.
const LIBRARY: &str = "/usr/lib/vminit";
const INITRD: &str = "initrd.img";

/// The image is 15 MiB, unpacked in memory, and the kernel wants as much again.
const FLOOR_MIN_MB: u32 = 64;
/// Below are the users of the host itself.
const UID_BASE_MIN: u32 = 1 << 16;

/// With a pid, which is below 2^22 (PID_MAX_LIMIT, proc(5)), it is still a uid; that of all ones is none (setresuid(2)).
const UID_BASE_MAX: u32 = u32::MAX - (1 << 22);

/// 1 TiB: what a q35 machine of QEMU surely takes.
const MEMORY_MAX_MB: u32 = 1 << 20;
/// What a q35 machine of QEMU 7.2 takes.
const CPUS_MAX: u32 = 288;

/// The settings of one host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub machine: Machine,
    pub annotations: Allowed,
    pub vsock: Vsock,
    pub containerd: Containerd,
}

/// What every machine is made of.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Machine {
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    /// The vsock backend and the file-system backend.
    pub vsock_backend: PathBuf,
    pub virtiofsd: PathBuf,
    /// Arguments for the kernel besides the shim's own.
    pub kernel_args: String,
    /// MiB of a container without a limit.
    pub memory_mb: u32,
    /// Processors of a container without a quota.
    pub cpus: u32,
    /// MiB that the guest takes itself, on top of a container's limit: kernel, page tables, PID 1 and runc.
    pub overhead_mb: u32,
    /// MiB below which no machine boots.
    pub floor_mb: u32,
    /// What no annotation and no limit of a container goes beyond.
    pub max_memory_mb: u32,
    pub max_cpus: u32,
    /// QEMU runs as the user, and the group, of this number and the pid that stands for the container: no machine can
    /// touch another's, or anybody else's.
    pub uid_base: u32,
    /// Whether KVM may be used where it proves usable.
    pub kvm: bool,
}

/// What annotations may choose besides the size, which they always may.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Allowed {
    /// Kernels and initrds that a container may name, each a path.
    pub kernels: Vec<PathBuf>,
    pub initrds: Vec<PathBuf>,
    pub kernel_args: bool,
}

/// How the guest is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Vsock {
    /// Use the host's own vsock ([`crate::vm::Vsock::Kernel`], which says why this is off).
    pub kernel: bool,
}

/// What is said to containerd.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Containerd {
    /// Answer `start` in JSON with version 3: for containerd 2.0 to 2.2, which cannot be told from 1.7.
    pub json_reply: bool,
}

/// The folder of the shim itself if a guest lies beside it, as after a build; else [`LIBRARY`].
fn library() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let beside = program.parent().filter(|folder| folder.join(INITRD).exists());
    beside.unwrap_or(Path::new(LIBRARY)).to_owned()
}

impl Default for Machine {
    fn default() -> Machine {
        let folder = library();
        let library = |name: &str| folder.join(name);
        Machine {
            kernel: library("vmlinuz"),
            initrd: library(INITRD),
            vsock_backend: library("vhost-device-vsock"),
            virtiofsd: PathBuf::from("/usr/lib/qemu/virtiofsd"),
            kernel_args: String::new(),
            memory_mb: 512,
            cpus: 1,
            overhead_mb: 96,
            floor_mb: 192,
            max_memory_mb: 4096,
            max_cpus: 4,
            uid_base: 0x7000_0000,
            kvm: true,
        }
    }
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("read {path}: {source}", path = .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("use {path}: {source}", path = .path.display())]
    Parse { path: PathBuf, source: Box<toml::de::Error> },
    #[error("use {path}: {key} is {value}, and must be from {min} to {max}", path = .path.display())]
    Bounds { path: PathBuf, key: &'static str, value: u32, min: u32, max: u32 },
}

impl Config {
    /// Reads the file; one that is not there is empty. Blocks for the file.
    ///
    /// # Errors
    /// A file that cannot be read or has a mistake in it: a machine is not to be made by half of what was asked for.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Config::parse(path, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Config::default()),
            Err(source) => Err(ConfigError::Read { path: path.to_owned(), source }),
        }
    }

    fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
        let parsed: Result<Config, toml::de::Error> = toml::from_str(text);
        let config = parsed
            .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })?;
        config.check(path)?;
        Ok(config)
    }

    fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let machine = &self.machine;
        let (floor, memory, cpus) = (machine.floor_mb, machine.max_memory_mb, machine.max_cpus);
        for (key, value, min, max) in [
            ("machine.floor_mb", floor, FLOOR_MIN_MB, MEMORY_MAX_MB),
            ("machine.max_memory_mb", memory, floor, MEMORY_MAX_MB),
            ("machine.memory_mb", machine.memory_mb, floor, memory),
            ("machine.overhead_mb", machine.overhead_mb, 0, memory),
            ("machine.max_cpus", cpus, 1, CPUS_MAX),
            ("machine.cpus", machine.cpus, 1, cpus),
            ("machine.uid_base", machine.uid_base, UID_BASE_MIN, UID_BASE_MAX),
        ] {
            if !(min..=max).contains(&value) {
                return Err(ConfigError::Bounds { path: path.to_owned(), key, value, min, max });
            }
        }
        Ok(())
    }
}
