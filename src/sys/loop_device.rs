//! Loop devices: a file as a block device that ends with its last user.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// How often another process may take the free device before us. Each loss means that somebody else has won, so this
/// many is only reached when as many attach at the same time.
const ATTEMPTS: usize = 64;

const CONTROL: &str = "/dev/loop-control";

/// A file attached to a loop device. While this or a mount holds the device open it stays; then the kernel detaches
/// the file.
#[derive(Debug)]
pub struct LoopDevice {
    device: File,
    path: PathBuf,
}

impl LoopDevice {
    /// Attaches `file` to the first free loop device. A writable device needs a file that is open for writing.
    pub fn attach(file: BorrowedFd<'_>, read_only: bool) -> io::Result<LoopDevice> {
        let control = open(Path::new(CONTROL), true)?;
        let config = LoopConfig::of(file, read_only);
        for _ in 0..ATTEMPTS {
            match attach_to_free(&control, &config, read_only) {
                // Between the question for a free device and its use somebody else took it, or removed it.
                Err(error) if [libc::EBUSY, libc::ENXIO].map(Some).contains(&error.raw_os_error()) => {}
                result => return result,
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "every free loop device was taken by somebody else"))
    }

    /// Where it can be mounted from, while `self` lives.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Detaches the file now, or when the device's other users have gone.
    pub fn detach(self) -> io::Result<()> {
        // SAFETY: the request takes no argument, and the descriptor is open.
        unsafe { ioctl::clr_fd(self.device.as_raw_fd()) }?;
        Ok(())
    }
}

fn attach_to_free(control: &File, config: &LoopConfig, read_only: bool) -> io::Result<LoopDevice> {
    // SAFETY: the request takes no argument, and the descriptor is open.
    let number = unsafe { ioctl::ctl_get_free(control.as_raw_fd()) }?;
    let path = PathBuf::from(format!("/dev/loop{number}"));
    let device = open(&path, !read_only)?;
    // SAFETY: `config` is laid out as the kernel's `struct loop_config`, which it only reads.
    unsafe { ioctl::configure(device.as_raw_fd(), config) }?;
    Ok(LoopDevice { device, path })
}

/// Opens a device and names it in the error: the caller has asked for a file, not for this.
fn open(path: &Path, write: bool) -> io::Result<File> {
    let opened = OpenOptions::new().read(true).write(write).open(path);
    opened.map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV) => io::Error::new(
            error.kind(),
            format!("{}: {error} (no loop driver in the kernel?)", path.display()),
        ),
        _ => error,
    })
}

/// The ioctls of linux/loop.h that are used here.
mod ioctl {
    use super::LoopConfig;

    nix::ioctl_write_ptr_bad!(configure, 0x4C0A, LoopConfig);
    nix::ioctl_none_bad!(clr_fd, 0x4C01);
    nix::ioctl_none_bad!(ctl_get_free, 0x4C82);
}

/// `LO_FLAGS_READ_ONLY` and `LO_FLAGS_AUTOCLEAR` of linux/loop.h.
const READ_ONLY: u32 = 1;
const AUTOCLEAR: u32 = 4;

/// `struct loop_config` of linux/loop.h.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// `struct loop_info64` of linux/loop.h.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

const _: () = assert!(size_of::<LoopInfo>() == 232 && size_of::<LoopConfig>() == 304);

impl LoopConfig {
    /// The whole file, with the block size of the device that it is on.
    fn of(file: BorrowedFd<'_>, read_only: bool) -> LoopConfig {
        let flags = AUTOCLEAR | if read_only { READ_ONLY } else { 0 };
        let info = LoopInfo {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        };
        LoopConfig { fd: file.as_raw_fd() as u32, block_size: 0, info, reserved: [0; 8] }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;

    use super::*;

    fn can_attach() -> bool {
        let can = nix::unistd::geteuid().is_root() && Path::new(CONTROL).exists();
        if !can {
            eprintln!("skipped: loop devices need root and a driver");
        }
        can
    }

    #[test]
    fn what_is_written_to_the_device_is_in_the_file() {
        if !can_attach() {
            return;
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(8192).unwrap();
        let attached = LoopDevice::attach(file.as_file().as_fd(), false).unwrap();
        let mut device = open(attached.path(), true).unwrap();
        device.write_all(&[7; 4096]).unwrap();
        device.sync_all().unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap()[..4096], [7; 4096]);
        attached.detach().unwrap();
    }

    #[test]
    fn those_who_attach_at_the_same_time_get_a_device_each() {
        if !can_attach() {
            return;
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(4096).unwrap();
        let attach = || LoopDevice::attach(file.as_file().as_fd(), true).unwrap();
        for _ in 0..8 {
            let mut devices: Vec<LoopDevice> = std::thread::scope(|scope| {
                let threads = [(); 4].map(|()| scope.spawn(attach));
                threads.map(|thread| thread.join().unwrap()).into()
            });
            devices.sort_by(|a, b| a.path.cmp(&b.path));
            devices.dedup_by(|a, b| a.path == b.path);
            assert_eq!(devices.len(), 4);
        }
    }

    #[test]
    fn a_device_without_a_file_is_refused() {
        if !can_attach() {
            return;
        }
        let (pipe, _writer) = nix::unistd::pipe().unwrap();
        let refused = LoopDevice::attach(pipe.as_fd(), true).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn a_missing_driver_is_named() {
        let refused = open(Path::new("/dev/no-such-device"), true).unwrap_err();
        assert!(refused.to_string().contains("/dev/no-such-device"), "{refused}");
    }
}
