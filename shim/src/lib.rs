//! The host side of vminitd: microVMs and a typed client.
