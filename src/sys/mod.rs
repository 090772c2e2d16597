//! Thin typed wrappers of the kernel; the only home of `unsafe`. No policy.

pub mod clock;
pub mod console;
pub mod file;
pub mod freeze;
pub mod host_name;
pub mod inotify;
pub mod input;
pub mod loop_device;
pub mod module;
pub mod mount;
pub mod mountinfo;
pub mod net;
pub mod netlink;
pub mod power;
pub mod process;
pub mod pty;
pub mod rlimit;
pub mod rtc;
pub mod signal;
pub mod socket;
pub mod sysctl;
#[cfg(test)]
pub mod testing;
pub mod thread;
pub mod uevent;
pub mod wait;
