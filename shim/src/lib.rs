//! The host side of vminitd: the containerd shim, and what it is made of. It owns the host's ends of the wire and of
//! the virtual machine; it never holds anything that the guest needs.
//!
//! Begin at `bin/containerd-shim-vminit-v1.rs`: `cli` reads what containerd asks for, `serve` takes its calls,
//! `service` decodes them, and `task` composes the rest. `spec` and [`client::Guest`] serve the demo and the tests
//! only.

mod caller;
pub mod cli;
pub mod client;
pub mod config;
pub mod events;
pub mod holder;
pub mod hooks;
pub mod net;
pub mod plan;
pub mod rootfs;
pub mod serve;
pub mod service;
pub mod spec;
pub mod state;
pub mod stdio;
mod sys;
pub mod task;
pub mod vm;

pub use vminitd_api as api;
