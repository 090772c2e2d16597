//! vminitd as PID 1 of a real microVM, driven over vsock. Needs what `./taskw image` builds, in `VMINITD_BUILD` or
//! `build/`; without it the tests say so and pass, unless `VMINITD_BUILD` asks for them.
//!
//! Only well-formed connections are made here: the vsock backend does not survive others. Abuse is in
//! `blackbox_wire.rs`.

mod boot;
mod checkpoint;
mod machine;
mod observer;
mod oom;
mod parallel;
mod pause;
mod pids;
mod resources;
mod rootfs;
mod stdio;
mod task;
