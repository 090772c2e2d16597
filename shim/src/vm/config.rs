//! What a virtual machine is made of. Owns the values that a launch takes; starts nothing.

use std::path::PathBuf;

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Accel {
    /// KVM if it proves usable, else emulation.
    #[default]
    Auto,
    /// Emulation.
    Tcg,
}

/// A raw image, attached as virtio-blk.
#[derive(Debug, Clone)]
pub struct Disk {
    pub path: PathBuf,
    /// By which the guest finds it: at most 20 bytes, no comma.
    pub serial: String,
    pub read_only: bool,
}

/// A folder of the host that the guest sees, with all that is mounted below it then or later, by a virtiofsd of its
/// own.
#[derive(Debug, Clone)]
pub struct Share {
    /// Mounts that are made below it later reach the guest if it is a shared mount (mount_namespaces(7)).
    pub dir: PathBuf,
    /// The program: QEMU's own in C, or the one in Rust that came after it.
    pub virtiofsd: PathBuf,
    /// By which the guest mounts it: at most 36 bytes (virtio specification, 5.11.4), no comma.
    pub tag: String,
}

/// What the guest's vsock device is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vsock {
    /// A process of the machine's own, reached in its folder only: this program, a `vhost-device-vsock`.
    Backend(PathBuf),
    /// The host's kernel, by `/dev/vhost-vsock`. Any process of the host can dial the guest then, and does so as the
    /// host, CID 2 (vsock(7)).
    Kernel,
}

/// A user of the host, with its own group. Neither needs a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

/// A virtual machine to be launched.
#[derive(Debug, Clone)]
pub struct VmConfig {
    /// An ELF kernel with a PVH entry, or a bzImage.
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    pub memory_mb: u32,
    /// Virtual processors.
    pub cpus: u32,
    pub disks: Vec<Disk>,
    pub share: Option<Share>,
    /// Who QEMU runs as, without capabilities; without one, it and its backends may do what we may. It must be able
    /// to read the kernel and the initrd by their modes, but need not reach them, or anything else.
    pub user: Option<User>,
    /// The processors of the host that QEMU may use, as taskset(1) takes them: "0-2,5".
    pub cpuset: Option<String>,
    /// Into how many ports interfaces can be plugged ([`super::Vm::plug_tap`]). QEMU's root bus has room for some 24.
    pub nic_ports: u8,
    pub vsock: Vsock,
    /// Puts the vsock device of a backend on a port of its own, so that it can be replaced while the machine runs
    /// ([`super::Vm::replace_vsock`]).
    pub vsock_on_port: bool,
    /// More kernel arguments.
    pub append_extra: String,
    /// Arguments of PID 1.
    pub init_args: Vec<String>,
    /// Vsock ports that PID 1 serves ttrpc and streams on; it is not told of them.
    pub ports: (u32, u32),
    /// More arguments of QEMU, behind all others. It merges repeated `-smp` and `-m`.
    pub qemu_extra: Vec<String>,
    /// False: no serial device and no `console=`; no milestones either.
    pub console: bool,
    /// For sockets and the console's log; made with mode 0700 if it is not there. Not removed.
    pub dir: PathBuf,
    pub accel: Accel,
}

/// The guest's ports for ttrpc and for streams, as it has them by default.
const PORTS: (u32, u32) = (1024, 1025);

/// What a guest behind vhost-device-vsock must be told: that backend hides a half-close, and may drop what a plain
/// close overtakes.
const STREAM_CLOSE: &str = "-stream-close=eof";

impl VmConfig {
    /// A machine of 512 MiB and one processor, with a console, from the artefacts in `build`: `vmlinuz`, `initrd.img`
    /// and `vhost-device-vsock`.
    pub fn new(build: &std::path::Path, dir: PathBuf) -> VmConfig {
        VmConfig {
            kernel: build.join("vmlinuz"),
            initrd: build.join("initrd.img"),
            memory_mb: 512,
            cpus: 1,
            disks: Vec::new(),
            share: None,
            user: None,
            cpuset: None,
            nic_ports: 0,
            vsock: Vsock::Backend(build.join("vhost-device-vsock")),
            vsock_on_port: false,
            append_extra: String::new(),
            init_args: vec![STREAM_CLOSE.to_owned()],
            ports: PORTS,
            qemu_extra: Vec::new(),
            console: true,
            dir,
            accel: Accel::Auto,
        }
    }

    /// The same on the host's own vsock. That hides nothing, so the guest need not be told.
    pub fn on_kernel_vsock(mut self) -> VmConfig {
        self.init_args.retain(|arg| arg != STREAM_CLOSE);
        VmConfig { vsock: Vsock::Kernel, ..self }
    }

    /// Where the backend of the vsock device listens for QEMU's end, until that is connected.
    pub(super) fn vhost_socket(&self) -> PathBuf {
        self.dir.join("vhost.sock")
    }

    pub(super) fn vsock_socket(&self) -> PathBuf {
        self.dir.join("vsock.sock")
    }

    /// Where virtiofsd listens for QEMU's end, until that is connected.
    pub(super) fn share_socket(&self) -> PathBuf {
        self.dir.join("virtiofs.sock")
    }

    pub(super) fn console_log(&self) -> PathBuf {
        self.dir.join("console.log")
    }
}
