//! Facts about the whole path from `ctr` over containerd, the shim, QEMU and PID 1 to runc, as root, in a world of
//! their own. It owns no part of the system: everything is seen from outside, as containerd's users and the kernel see
//! it.
//!
//! `VMINIT_RUNTIME` names another runtime to ask the same of, like `io.containerd.runc.v2`; facts about microVMs are
//! skipped then. `VMINIT_SHIM_BIN` names another shim than the one cargo has built.

mod alone;
mod chaos;
mod fixtures;
mod integrity;
mod lifecycle;
mod loss;
mod parts;
mod restart;
mod terminal;
mod timing;
mod traces;
mod until;
mod world;
