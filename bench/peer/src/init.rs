//! The floor of the boot: a PID 1 that does what listening needs and nothing else. It makes the mounts of vminitd's
//! boot, loads the modules that the image lists for listening, listens on the RPC port, and answers each read of a
//! connection with the same bytes. It is ended by the end of its machine, and never by itself: PID 1 must not end.

use std::convert::Infallible;
use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::thread;

use nix::errno::Errno;
use nix::kmod::{finit_module, ModuleInitFlags};
use nix::mount::{mount, MsFlags};
use nix::time::{clock_gettime, ClockId};
use nix::unistd::{chdir, chroot};
use vsock::{VsockListener, VsockStream, VMADDR_CID_ANY};

/// The RPC port of vminitd.
const PORT: u32 = 1024;

/// What every request is answered with: a ttrpc frame of type response on stream 1 without data, which to a client is
/// an empty response.
const ANSWER: [u8; 10] = [0, 0, 0, 0, 0, 0, 0, 1, 2, 0];

/// Where the image has modules, and those that listening needs, up to the first empty line.
const MODULES: &str = "/lib/modules";
const ORDER: &str = "load.order";

const CLOSED: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC).union(MsFlags::MS_NODEV);
const NOSUID_NOEXEC: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC);
const NOSUID_NODEV: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);

/// What vminitd's boot mounts behind the move of the root: source, target, kind, flags, options.
const MOUNTS: [(&str, &str, &str, MsFlags, &str); 9] = [
    ("sysfs", "/sys", "sysfs", CLOSED, ""),
    ("none", "/sys/fs/cgroup", "cgroup2", MsFlags::empty(), ""),
    ("tmpfs", "/run", "tmpfs", CLOSED, ""),
    ("tmpfs", "/tmp", "tmpfs", CLOSED, ""),
    ("devtmpfs", "/dev", "devtmpfs", NOSUID_NOEXEC, ""),
    ("tmpfs", "/var/lib/spin-stack", "tmpfs", NOSUID_NODEV, "size=32m"),
    ("devpts", "/dev/pts", "devpts", NOSUID_NOEXEC, "gid=5,mode=0620,ptmxmode=0666"),
    ("shm", "/dev/shm", "tmpfs", CLOSED, "mode=1777,size=64m"),
    ("mqueue", "/dev/mqueue", "mqueue", CLOSED, ""),
];

/// Boots and answers for as long as the machine runs.
///
/// # Errors
/// Whatever keeps it from listening. The caller must not return then.
pub fn run() -> Result<Infallible, Box<dyn Error>> {
    let mut console = OpenOptions::new().write(true).open("/dev/console")?;
    tell(&mut console, "pid1-entry")?;
    mount_in("proc", "/proc", "proc", CLOSED, "")?;
    move_root()?;
    for (source, target, kind, flags, options) in MOUNTS {
        mount_in(source, target, kind, flags, options)?;
    }
    load_modules(Path::new(MODULES))?;
    let listener = VsockListener::bind_with_cid_port(VMADDR_CID_ANY, PORT)?;
    tell(&mut console, "vsock-listen")?;
    loop {
        let (stream, _) = listener.accept()?;
        thread::spawn(move || answer(stream));
    }
}

/// The line by which hosts know how far a boot is.
fn tell(console: &mut impl Write, phase: &str) -> Result<(), Box<dyn Error>> {
    let uptime = clock_gettime(ClockId::CLOCK_BOOTTIME)?;
    let uptime_us = uptime.tv_sec() * 1_000_000 + uptime.tv_nsec() / 1_000;
    // At once: each write of its own costs one more.
    console.write_all(format!("VMINITD_READY uptime_us={uptime_us} phase={phase}\n").as_bytes())?;
    Ok(())
}

fn mount_in(
    source: &str,
    target: &str,
    kind: &str,
    flags: MsFlags,
    options: &str,
) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(target)?;
    mount(Some(source), target, Some(kind), flags, Some(options))
        .map_err(|e| format!("mount {target}: {e}"))?;
    Ok(())
}

/// Off the initramfs, as in vminitd's `boot/root.rs`.
fn move_root() -> nix::Result<()> {
    const NEW_ROOT: &str = "/.root";
    const NONE: Option<&str> = None;
    // It may be there already.
    let _ = fs::create_dir(NEW_ROOT);
    mount(Some("/"), NEW_ROOT, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)?;
    chdir(NEW_ROOT)?;
    mount(Some("."), "/", NONE, MsFlags::MS_MOVE, NONE)?;
    chroot(".")
}

fn load_modules(folder: &Path) -> Result<(), Box<dyn Error>> {
    let order = fs::read_to_string(folder.join(ORDER))?;
    for path in order.lines().take_while(|line| !line.is_empty()) {
        match finit_module(File::open(folder.join(path))?, c"", ModuleInitFlags::empty()) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(format!("load {path}: {errno}").into()),
        }
    }
    Ok(())
}

/// Answers until the host closes; an error is its end too.
fn answer(mut stream: VsockStream) {
    let mut request = [0; 4096];
    while stream.read(&mut request).is_ok_and(|length| length > 0) {
        if stream.write_all(&ANSWER).is_err() {
            return;
        }
    }
}
