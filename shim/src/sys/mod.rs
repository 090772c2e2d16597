//! Thin typed wrappers of what the kernel offers and no crate in use wraps whole. The only home of `unsafe` in the
//! shim; decides nothing.

mod interface;
mod mount_attr;
mod pidfd;
mod vhost;

pub(crate) use interface::{bring_up_loopback, make_tap};
pub(crate) use mount_attr::{set_mount_attr, MountAttr};
pub(crate) use pidfd::Pidfd;
pub(crate) use vhost::take_guest_cid;
