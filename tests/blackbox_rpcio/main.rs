//! Stdio over the RPC connection alone: containerd's Streaming service, and the StdIO service.
#![allow(
    clippy::disallowed_methods,
    reason = "the ban keeps children away from PID 1's back; this is not PID 1"
)]

mod interop;
mod rig;
mod stdio;
mod streaming;
