//! The tasks of this shim and the machine they are in: what can be asked of them, from Create to Delete. Owns the set, and
//! who may do what at the same time; never sees the wire, nor a command line.
//!
//! A machine holds a set of tasks; today it has one, and a second Create is refused.

mod container;
mod create;
mod delete;
mod error;
mod exec;
mod fate;
mod ground;
mod link;
mod machine;
mod process;
mod record;
mod signal;
mod start;
mod timing;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use create::CreateRequest;
pub use delete::Deleted;
pub use error::TaskError;
pub use exec::ExecRequest;
pub use process::{Snapshot, Status};

use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::client::INIT;
use crate::config::Config;
use crate::events::Publisher;
use crate::state::Exit;
use container::Container;
use ground::Ground;
use link::Link;
use machine::Machine;
use timing::Timing;

/// What all tasks share.
#[derive(Debug)]
pub struct Host {
    pub config: Config,
    /// containerd's socket, which tells its tasks from those of another.
    pub address: String,
    /// containerd's namespace.
    pub namespace: String,
    pub publisher: Publisher,
}

/// The tasks.
pub struct Tasks {
    host: Host,
    slots: Mutex<BTreeMap<String, Slot>>,
    /// How many slots there are.
    count: watch::Sender<usize>,
}

#[derive(Clone)]
enum Slot {
    /// Its id is taken, and it is not there yet.
    Making,
    There(Arc<Entry>),
}

/// A task that is there.
struct Entry {
    container: Arc<Container>,
    /// Whoever starts or deletes the task has it, and nobody waits for it: the other is told that the task is busy.
    ground: tokio::sync::Mutex<Ground>,
    machine: Machine,
    link: Link,
    timing: Timing,
    /// Ends with the task: what its machine's end means is for the living.
    watch: AbortOnDropHandle<()>,
}

impl Tasks {
    pub fn new(host: Host) -> Tasks {
        Tasks { host, slots: Mutex::default(), count: watch::Sender::new(0) }
    }

    /// Creates a task in a machine of its own; gives the pid of the process that stands for it on this host. When `gone`
    /// is cancelled nobody waits for it any more, and nobody would ever delete it.
    ///
    /// # Errors
    /// `Exists`, `Second`, `Abandoned`, and those of the step that failed: nothing is left of it then.
    pub async fn create(&self, request: CreateRequest, gone: CancellationToken) -> Result<u32, TaskError> {
        let id = request.id.clone();
        self.reserve(&id)?;
        match create::create(&self.host, request, gone).await {
            Ok(entry) => {
                let pid = entry.container.init_pid();
                entry.container.answered(INIT);
                self.put(id, Slot::There(Arc::new(entry)));
                Ok(pid)
            }
            Err(error) => {
                self.remove(&id);
                Err(error)
            }
        }
    }

    fn reserve(&self, id: &str) -> Result<(), TaskError> {
        let other = self.slots().keys().next().cloned();
        match other {
            Some(other) if other == id => Err(TaskError::Exists(other)),
            Some(other) => Err(TaskError::Second { id: id.to_owned(), other }),
            None => {
                self.put(id.to_owned(), Slot::Making);
                Ok(())
            }
        }
    }

    fn put(&self, id: String, slot: Slot) {
        let mut slots = self.slots();
        slots.insert(id, slot);
        self.count.send_replace(slots.len());
    }

    fn remove(&self, id: &str) {
        let mut slots = self.slots();
        slots.remove(id);
        self.count.send_replace(slots.len());
    }

    /// Starts the init ([`INIT`]) or an exec; gives the pid to report.
    ///
    /// # Errors
    /// `NoTask`, `Busy` while it is being deleted, `Guest` with the guest's words, and those of the network.
    pub async fn start(&self, id: &str, exec_id: &str) -> Result<u32, TaskError> {
        let entry = self.find(id)?;
        match exec_id {
            INIT => entry.start_init().await,
            exec_id => entry.guest_start(exec_id).await,
        }
    }

    /// Answers from memory, whatever the guest does.
    ///
    /// # Errors
    /// `NoTask` and `NoProcess`, as everywhere below.
    pub fn state(&self, id: &str, exec_id: &str) -> Result<Snapshot, TaskError> {
        self.find(id)?.container.snapshot(exec_id)
    }

    /// Waits for the end of a process.
    ///
    /// # Errors
    /// `NoProcess` also if it was deleted without having run.
    pub async fn wait(&self, id: &str, exec_id: &str) -> Result<Exit, TaskError> {
        let mut exit = self.find(id)?.container.watch(exec_id)?;
        let gone = || TaskError::NoProcess { id: id.to_owned(), exec: exec_id.to_owned() };
        let exit = *exit.wait_for(Option::is_some).await.map_err(|_| gone())?;
        exit.ok_or_else(gone)
    }

    /// Waits until there has been no task for so long. A containerd that was killed before it could say Shutdown does not say
    /// it later: 1.6 takes a shim without a task up again, and forgets it.
    pub async fn idle(&self, long: Duration) {
        let mut count = self.count.subscribe();
        loop {
            let none = count.wait_for(|count| *count == 0).await.is_ok();
            // The sender is this very object.
            if none && timeout(long, count.wait_for(|count| *count > 0)).await.is_err() {
                return;
            }
        }
    }

    /// Whether no task is there, or on its way.
    pub fn is_empty(&self) -> bool {
        self.slots().is_empty()
    }

    fn find(&self, id: &str) -> Result<Arc<Entry>, TaskError> {
        match self.slots().get(id) {
            Some(Slot::There(entry)) => Ok(Arc::clone(entry)),
            Some(Slot::Making) | None => Err(TaskError::NoTask(id.to_owned())),
        }
    }

    /// No code panics while it holds the lock.
    fn slots(&self) -> MutexGuard<'_, BTreeMap<String, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn busy(&self, what: &'static str) -> TaskError {
        TaskError::Busy { what, id: self.container.id().to_owned() }
    }
}
