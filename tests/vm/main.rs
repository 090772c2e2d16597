//! vminitd as PID 1 of a real microVM, driven over vsock. Needs what `./taskw image` builds, in `VMINITD_BUILD` or
//! `build/`; without it the tests say so and pass, unless `VMINITD_BUILD` asks for them.
//!
//! Only well-formed connections are made here: the vsock backend does not survive others. Abuse is in
//! `blackbox_wire.rs`.

mod bare_image;
mod boot;
mod checkpoint;
mod clock;
mod config;
mod devices;
mod freeze;
mod hotplug;
mod machine;
mod network;
mod observer;
mod oom;
mod orphans;
mod parallel;
mod pause;
mod pids;
mod power;
mod resources;
mod rootfs;
mod spinbox;
mod stdio;
mod supervisor;
mod task;
mod vsock;
