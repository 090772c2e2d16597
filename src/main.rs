//! vminitd, PID 1 of a container microVM.

mod boot;
mod config;
mod events;
mod io;
mod logging;
mod net;
mod profile;
mod reaper;
mod rootfs;
mod runc;
mod services;
mod shutdown;
mod sys;
mod task;
mod tracked;
mod wire;

fn main() {}
