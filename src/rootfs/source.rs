//! What mount(2) is given as the source of a mount.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use tracing::warn;

use super::bundle::Bundle;
use super::plan::Planned;
use super::RootfsError;
use crate::sys::loop_device::LoopDevice;
use crate::sys::mount::{MsFlags, Place};

/// Open until the mount has been made.
pub(super) enum Source {
    /// As the request has it.
    Name(String),
    /// A path in the bundle: by name it could be a symlink of an earlier mount's.
    Place(Place),
    Loop(LoopDevice),
}

impl Source {
    pub(super) fn open(planned: &Planned, bundle: &Bundle) -> Result<Source, RootfsError> {
        let source = match &planned.source_inside {
            Some(inside) => Source::Place(bundle.place(inside)?),
            None => Source::Name(planned.source.clone()),
        };
        if !planned.on_loop {
            return Ok(source);
        }
        let attached = attach(source.name().as_ref(), planned.flags.contains(MsFlags::MS_RDONLY));
        attached
            .map(Source::Loop)
            .map_err(|error| RootfsError::Loop { file: planned.source.clone(), source: error })
    }

    pub(super) fn name(&self) -> String {
        match self {
            Source::Name(name) => name.clone(),
            Source::Place(place) => place.handle().display().to_string(),
            Source::Loop(device) => device.path().display().to_string(),
        }
    }

    /// Gives up a source that was not mounted.
    pub(super) fn release(self) {
        if let Source::Loop(device) = self {
            device.detach().unwrap_or_else(|error| warn!(%error, "cannot detach a loop device"));
        }
    }
}

fn attach(path: &Path, read_only: bool) -> io::Result<LoopDevice> {
    LoopDevice::attach(open(path, !read_only)?.as_fd(), read_only)
}

/// Does not wait for the other end of what turns out to be a pipe; the kernel refuses that as a loop device.
fn open(path: &Path, write: bool) -> io::Result<File> {
    OpenOptions::new().read(true).write(write).custom_flags(libc::O_NONBLOCK).open(path)
}
