//! The host side of vminitd: microVMs and a typed client. It owns the host's ends of the wire and of the virtual
//! machine; it never holds anything that the guest needs.

pub mod client;
pub mod spec;
pub mod vm;

pub use vminitd_api as api;
