//! The host side of vminitd: microVMs and a typed client. It owns the host's ends of the wire and of the virtual
//! machine; it never holds anything that the guest needs.

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
