//! Work in another network namespace. Owns the thread that does it; what it does is the caller's.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::{setns, CloneFlags};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::kernel::Kernel;
use super::NetError;

/// A network namespace, which lives as long as this does.
#[derive(Debug, Clone)]
pub(super) struct Namespace {
    file: Arc<File>,
    path: PathBuf,
}

impl Namespace {
    /// # Errors
    /// `Namespace`.
    pub(super) fn open(path: &Path) -> Result<Namespace, NetError> {
        match File::open(path) {
            Ok(file) => Ok(Namespace { file: Arc::new(file), path: path.to_owned() }),
            Err(source) => Err(NetError::Namespace { path: path.to_owned(), source }),
        }
    }

    /// Does `work` in the namespace, on a thread of its own that ends with it: setns(2) moves a thread and no more, and
    /// a request over netlink waits within send(2) for whoever else changes interfaces on this host.
    ///
    /// # Errors
    /// `Late` if it is not done `within` this time, and goes on nevertheless; `Namespace`, `Kernel`, `Lost`, and those
    /// of the work.
    pub(super) async fn inside<T, W>(&self, within: Duration, work: W) -> Result<T, NetError>
    where
        T: Send + 'static,
        W: AsyncFnOnce(Kernel) -> Result<T, NetError> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        let namespace = self.clone();
        let entered = move || {
            // Nobody listens any more if it was late.
            let _ = tell.send(namespace.work(work));
        };
        let step = |source| NetError::Kernel { step: "start a thread".into(), source };
        thread::Builder::new().name("vminit-net".into()).spawn(entered).map_err(step)?;
        let done = timeout(within, told).await.map_err(|_| NetError::Late(within))?;
        done.map_err(|_| NetError::Lost)?
    }

    fn work<T, W>(self, work: W) -> Result<T, NetError>
    where
        W: AsyncFnOnce(Kernel) -> Result<T, NetError>,
    {
        if let Err(error) = setns(&self.file, CloneFlags::CLONE_NEWNET) {
            return Err(NetError::Namespace { path: self.path, source: error.into() });
        }
        let step = |source| NetError::Kernel { step: "open a netlink socket".into(), source };
        let runtime = Builder::new_current_thread().enable_io().build().map_err(step)?;
        runtime.block_on(async { work(Kernel::open().map_err(step)?).await })
    }
}

impl NetError {
    /// Whether there is no such namespace any more: no process, no file, or one that nothing is mounted on, as
    /// unmounting `/run/netns/<name>` leaves it.
    pub(super) fn is_gone(&self) -> bool {
        let NetError::Namespace { source, .. } = self else { return false };
        let errno = source.raw_os_error().map(Errno::from_raw);
        source.kind() == io::ErrorKind::NotFound || matches!(errno, Some(Errno::ESRCH | Errno::EINVAL))
    }
}
