//! QEMU's command line. Pure: it starts nothing and looks at nothing.
//!
//! All that QEMU uses is opened by us and handed to it by number: it may run as a user who can reach none of it.

use super::child::FIRST_FD;
use super::VmConfig;

/// Kernel arguments of every machine: the first makes a panic end the machine (with `-no-reboot`), the others spare
/// 0.6 s of boot in emulation (crypto self tests, patching of SMP alternatives), and the test of the timer, which
/// fails when the host is too busy to let it tick in time, and is a panic then.
const APPEND: &str = "quiet panic=-1 cryptomgr.notests noreplace-smp no_timer_check";

const KVM: &str = "-accel kvm -cpu host";

/// All processors in one thread of QEMU: with one for each, two processors of a guest have been seen to wait for each
/// other for ever in the kernel (soft lockups, QEMU 7.2).
const TCG: &str = "-accel tcg,thread=single";

/// QEMU's own seccomp filter: no change of user, no other programs, no change of priorities (qemu(1), `-sandbox`).
const SANDBOX: &str = "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// Chassis and slot name a port to the guest (PCI Express, 7.5.3.9): these are ours, lower ones are for `qemu_extra`.
const VSOCK_CHASSIS: u8 = 64;
const FIRST_NIC_CHASSIS: u8 = 65;

/// The descriptors that QEMU is started with, in this order; disks follow.
const KERNEL_FD: usize = FIRST_FD;
const INITRD_FD: usize = FIRST_FD + 1;
const MONITOR_FD: usize = FIRST_FD + 2;
const VSOCK_FD: usize = FIRST_FD + 3;
const FIRST_DISK_FD: usize = FIRST_FD + 4;

/// Where a kernel that was handed over by number is found again, for readers that take nothing but paths.
pub(super) fn path_of(fd: usize) -> String {
    format!("/proc/self/fd/{fd}")
}

/// The port that the network interface `index` is plugged into.
pub(super) fn nic_port(index: u8) -> String {
    format!("nic-port{index}")
}

/// QEMU's arguments. The guest's memory is shared because the backends, processes of their own, read it.
///
/// `cid` is the guest's address on the host's own vsock; without one the device is a backend's.
pub(super) fn qemu(config: &VmConfig, kvm: bool, cid: Option<u32>) -> Vec<String> {
    let (memory, cpus) = (config.memory_mb, config.cpus);
    let mut args = words("-nodefaults -no-user-config -display none -no-reboot -device pvpanic-pci");
    args.extend(words(SANDBOX));
    args.extend(words(&format!("-smp {cpus}")));
    args.extend(words("-machine q35,memory-backend=mem0"));
    args.extend(words(if kvm { KVM } else { TCG }));
    args.extend(words(&format!("-m {memory} -object memory-backend-memfd,id=mem0,size={memory}M,share=on")));
    args.extend(words(&format!(
        "-chardev socket,id=monitor,fd={MONITOR_FD} -mon chardev=monitor,mode=control"
    )));
    args.extend(words(&format!("-kernel {} -initrd {}", path_of(KERNEL_FD), path_of(INITRD_FD))));
    args.extend(["-append".to_string(), append(config)]);
    if config.console {
        args.extend(words("-serial stdio"));
    }
    args.extend(vsock(config, cid));
    args.extend((0..config.nic_ports).flat_map(port));
    args.extend(disks(config));
    args.extend(share(config));
    args.extend(config.qemu_extra.iter().cloned());
    args
}

fn vsock(config: &VmConfig, cid: Option<u32>) -> Vec<String> {
    if let Some(cid) = cid {
        return words(&format!("-device vhost-vsock-pci,guest-cid={cid},vhostfd={VSOCK_FD}"));
    }
    let chardev = format!("-chardev socket,id=vsock0,fd={VSOCK_FD}");
    words(&match config.vsock_on_port {
        // A bus that devices can leave; the root complex itself is none.
        true => format!(
            "{chardev} -device pcie-root-port,id=vsock-port,chassis={VSOCK_CHASSIS} \
             -device vhost-user-vsock-pci,id=vsock0,chardev=vsock0,bus=vsock-port"
        ),
        false => format!("{chardev} -device vhost-user-vsock-pci,chardev=vsock0"),
    })
}

fn port(index: u8) -> Vec<String> {
    let chassis = FIRST_NIC_CHASSIS.saturating_add(index);
    words(&format!("-device pcie-root-port,id={},chassis={chassis}", nic_port(index)))
}

/// Each in a set of descriptors of its own, which QEMU opens by a path (qemu(1), `-add-fd`). `auto-read-only` would
/// open for reading first, for which such a set has no descriptor.
fn disks(config: &VmConfig) -> Vec<String> {
    let mut args = Vec::new();
    for (index, disk) in config.disks.iter().enumerate() {
        let read_only = if disk.read_only { "on" } else { "off" };
        let fd = FIRST_DISK_FD + index;
        args.extend(words(&format!("-add-fd fd={fd},set={index} -drive")));
        args.push(format!(
            "if=none,id=disk{index},format=raw,file=/dev/fdset/{index},read-only={read_only},auto-read-only=off"
        ));
        args.extend([
            "-device".to_string(),
            format!("virtio-blk-pci,drive=disk{index},serial={}", disk.serial),
        ]);
    }
    args
}

fn share(config: &VmConfig) -> Vec<String> {
    let Some(share) = &config.share else { return Vec::new() };
    let fd = FIRST_DISK_FD + config.disks.len();
    let mut args = words(&format!("-chardev socket,id=share,fd={fd} -device"));
    args.push(format!("vhost-user-fs-pci,chardev=share,tag={}", share.tag));
    args
}

fn append(config: &VmConfig) -> String {
    let mut append = if config.console { format!("console=ttyS0 {APPEND}") } else { APPEND.to_string() };
    if !config.append_extra.is_empty() {
        append += " ";
        append += &config.append_extra;
    }
    if !config.init_args.is_empty() {
        append += " -- ";
        append += &config.init_args.join(" ");
    }
    append
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Disk, Share};
    use super::*;
    use std::path::{Path, PathBuf};

    fn machine() -> VmConfig {
        VmConfig::new(Path::new("/b"), PathBuf::from("/d"))
    }

    fn line(config: &VmConfig) -> String {
        qemu(config, false, None).join(" ")
    }

    #[test]
    fn pid_1_gets_its_arguments_after_the_kernels() {
        let config = VmConfig { append_extra: "a=1".into(), init_args: vec!["-debug".into()], ..machine() };
        assert_eq!(append(&config), format!("console=ttyS0 {APPEND} a=1 -- -debug"));
    }

    #[test]
    fn a_machine_without_a_console_has_neither_device_nor_argument() {
        let args = line(&VmConfig { console: false, ..machine() });
        assert!(!args.contains("-serial") && !args.contains("console="), "{args}");
    }

    #[test]
    fn the_hosts_own_vsock_is_handed_over_with_an_address_and_the_guest_told_nothing_of_a_backend() {
        let config = machine().on_kernel_vsock();
        let args = qemu(&config, false, Some(4711)).join(" ");
        assert!(args.contains("-device vhost-vsock-pci,guest-cid=4711,vhostfd=6"), "{args}");
        for other in ["vhost-user-vsock", "id=vsock0", "-stream-close"] {
            assert!(!args.contains(other) && line(&machine()).contains(other), "{other}");
        }
    }

    #[test]
    fn no_path_of_the_host_is_named() {
        let disk = |serial: &str| Disk { path: "/x".into(), serial: serial.into(), read_only: true };
        let share = Share { dir: "/share".into(), virtiofsd: "/v".into(), tag: "share".into() };
        let disks = vec![disk("one"), disk("two")];
        let args = line(&VmConfig { disks, share: Some(share), ..machine() });
        let paths: Vec<_> = args.split([' ', ',', '=']).filter(|word| word.starts_with('/')).collect();
        assert_eq!(paths, ["/proc/self/fd/3", "/proc/self/fd/4", "/dev/fdset/0", "/dev/fdset/1"]);
        for part in [
            "-add-fd fd=7,set=0",
            "-add-fd fd=8,set=1",
            "file=/dev/fdset/1,read-only=on",
            "drive=disk1,serial=two",
            "id=share,fd=9",
            "chardev=share,tag=share",
        ] {
            assert!(args.contains(part), "{part}: {args}");
        }
    }

    #[test]
    fn each_interface_has_a_port_with_a_chassis_of_its_own() {
        let args = line(&VmConfig { nic_ports: 2, vsock_on_port: true, ..machine() });
        let ports: Vec<_> = args.split(' ').filter(|word| word.starts_with("pcie-root-port")).collect();
        let expected = ["id=vsock-port,chassis=64", "id=nic-port0,chassis=65", "id=nic-port1,chassis=66"];
        assert_eq!(ports, expected.map(|port| format!("pcie-root-port,{port}")));
    }

    #[test]
    fn what_was_asked_for_besides_comes_last() {
        let config = VmConfig { qemu_extra: vec!["-smp".into(), "2".into()], ..machine() };
        assert!(line(&config).ends_with(" -smp 2"));
    }
}
