//! What a virtual machine is made of, and QEMU's command line for it. Pure: it starts nothing and looks at nothing.

use std::path::PathBuf;

/// Kernel arguments of every machine: the first makes a panic end the machine (with `-no-reboot`), the others spare
/// 0.6 s of boot in emulation (crypto self tests, patching of SMP alternatives), and the test of the timer, which fails when
/// the host is too busy to let it tick in time, and is a panic then.
const APPEND: &str = "quiet panic=-1 cryptomgr.notests noreplace-smp no_timer_check";

const KVM: &str = "-accel kvm -cpu host";

/// All processors in one thread of QEMU: with one for each, two processors of a guest have been seen to wait for each other
/// for ever in the kernel (soft lockups, QEMU 7.2).
const TCG: &str = "-accel tcg,thread=single";

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
    /// The program `vhost-device-vsock`.
    pub vsock_backend: PathBuf,
    /// Puts the vsock device on a port of its own, so that it can be replaced while the machine runs
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
    /// For sockets and logs; made with mode 0700 if it is not there. Not removed.
    pub dir: PathBuf,
    pub accel: Accel,
}

/// The guest's ports for ttrpc and for streams, as it has them by default.
const PORTS: (u32, u32) = (1024, 1025);

/// What a guest behind vhost-device-vsock must be told: that backend hides a half-close, and may drop what a plain
/// close overtakes.
const STREAM_CLOSE: &str = "-stream-close=eof";

impl VmConfig {
    /// A machine of 512 MiB and one processor, with a console, from the artefacts in `build`: `vmlinuz`, `initrd.img` and
    /// `vhost-device-vsock`.
    pub fn new(build: &std::path::Path, dir: PathBuf) -> VmConfig {
        VmConfig {
            kernel: build.join("vmlinuz"),
            initrd: build.join("initrd.img"),
            memory_mb: 512,
            cpus: 1,
            disks: Vec::new(),
            vsock_backend: build.join("vhost-device-vsock"),
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

    /// Each backend of the vsock device has a socket of its own for QEMU: `generation` counts them from 0.
    pub(super) fn vhost_socket(&self, generation: u32) -> PathBuf {
        self.dir.join(format!("vhost{generation}.sock"))
    }

    pub(super) fn vsock_socket(&self) -> PathBuf {
        self.dir.join("vsock.sock")
    }

    pub(super) fn qmp_socket(&self) -> PathBuf {
        self.dir.join("qmp.sock")
    }

    pub(super) fn console_log(&self) -> PathBuf {
        self.dir.join("console.log")
    }

    /// QEMU's arguments. The guest's memory is shared because the vsock backend, a process of its own, reads it.
    pub(super) fn qemu_args(&self, kvm: bool) -> Vec<String> {
        let (memory, cpus) = (self.memory_mb, self.cpus);
        let mut args = words("-nodefaults -no-user-config -display none -no-reboot -device pvpanic-pci");
        args.extend(words(&format!("-smp {cpus}")));
        args.extend(words("-machine q35,memory-backend=mem0"));
        args.extend(words(if kvm { KVM } else { TCG }));
        args.extend(words(&format!(
            "-m {memory} -object memory-backend-memfd,id=mem0,size={memory}M,share=on"
        )));
        args.extend(words(match self.vsock_on_port {
            // A bus that devices can leave; the root complex itself is none.
            true => {
                "-device pcie-root-port,id=vsock-port,chassis=64 \
                -device vhost-user-vsock-pci,id=vsock0,chardev=vsock0,bus=vsock-port"
            }
            false => "-device vhost-user-vsock-pci,chardev=vsock0",
        }));
        let mut pair = |key: &str, value: String| args.extend([key.to_string(), value]);
        pair("-chardev", format!("socket,id=vsock0,path={}", quoted(&self.vhost_socket(0))));
        pair("-qmp", format!("unix:{},server=on,wait=off", quoted(&self.qmp_socket())));
        pair("-kernel", self.kernel.display().to_string());
        pair("-initrd", self.initrd.display().to_string());
        pair("-append", self.append());
        if self.console {
            pair("-serial", "stdio".to_string());
        }
        for (index, disk) in self.disks.iter().enumerate() {
            let read_only = if disk.read_only { "on" } else { "off" };
            let file = quoted(&disk.path);
            pair("-drive", format!("if=none,id=disk{index},format=raw,file={file},read-only={read_only}"));
            pair("-device", format!("virtio-blk-pci,drive=disk{index},serial={}", disk.serial));
        }
        args.extend(self.qemu_extra.iter().cloned());
        args
    }

    fn append(&self) -> String {
        let mut append = if self.console { format!("console=ttyS0 {APPEND}") } else { APPEND.to_string() };
        if !self.append_extra.is_empty() {
            append += " ";
            append += &self.append_extra;
        }
        if !self.init_args.is_empty() {
            append += " -- ";
            append += &self.init_args.join(" ");
        }
        append
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_string).collect()
}

/// QEMU doubles a comma inside a value.
fn quoted(path: &std::path::Path) -> String {
    path.display().to_string().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn machine() -> VmConfig {
        VmConfig::new(Path::new("/b"), PathBuf::from("/d"))
    }

    #[test]
    fn pid_1_gets_its_arguments_after_the_kernels() {
        let config = VmConfig { append_extra: "a=1".into(), init_args: vec!["-debug".into()], ..machine() };
        assert_eq!(config.append(), format!("console=ttyS0 {APPEND} a=1 -- -debug"));
    }

    #[test]
    fn a_machine_without_a_console_has_neither_device_nor_argument() {
        let args = VmConfig { console: false, ..machine() }.qemu_args(false).join(" ");
        assert!(!args.contains("-serial") && !args.contains("console="), "{args}");
    }

    #[test]
    fn a_disk_has_its_serial_and_commas_in_its_path_are_doubled() {
        let disk = Disk { path: "/x,y".into(), serial: "rootfs".into(), read_only: true };
        let args = VmConfig { disks: vec![disk], ..machine() }.qemu_args(false).join(" ");
        assert!(args.contains("file=/x,,y,read-only=on") && args.contains("serial=rootfs"), "{args}");
    }
}
