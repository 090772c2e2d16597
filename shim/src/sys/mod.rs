//! Thin typed wrappers of what the kernel offers and no crate in use wraps whole. The only home of `unsafe` in the shim;
//! decides nothing.

mod loopback;
mod pidfd;

pub(crate) use loopback::bring_up_loopback;
pub(crate) use pidfd::Pidfd;
