//! Thin typed wrappers of the kernel; the only home of `unsafe`. No policy.

pub mod clock;
pub mod console;
pub mod file;
pub mod inotify;
pub mod loop_device;
pub mod module;
pub mod mount;
pub mod net;
pub mod power;
pub mod process;
pub mod pty;
pub mod rlimit;
pub mod signal;
pub mod socket;
#[cfg(test)]
pub mod testing;
pub mod wait;
