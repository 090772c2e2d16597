//! All containers of the guest, and what can be asked of them.

use crate::lock::Lock;
use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use super::bundles::{Bundles, FileName};
use super::container::{Container, Snapshot};
use super::error::TaskError;
use super::ids::{ContainerId, ProcessId};
use super::{oom, settle};
use crate::blocking::Disks;
use crate::events::Exchange;
use crate::io::{RelayTasks, StreamTable};
use crate::reaper::{ExitOf, Reaped};
use crate::runc::spec::Policy;
use crate::runc::Runtime;
use crate::tracked::Tracked;

use tokio::sync::{watch, OwnedSemaphorePermit, Semaphore};

/// How long things may take here.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How long an exit waits for output that something still holds open.
    pub io_drain: Duration,
    /// How long a Delete waits for output to be taken.
    pub delete_drain: Duration,
    /// How much earlier than its caller's deadline it stops waiting.
    pub delete_margin: Duration,
    /// How long a Create waits for a block device it names.
    pub device_wait: Duration,
    /// Processes there may be at once, inits and execs, of all containers together.
    pub processes: usize,
}

/// The place of one process among those there may be. Dropping it makes room for another.
pub type Place = OwnedSemaphorePermit;

/// What the tasks are made of; cheap to clone.
#[derive(Clone)]
pub struct Parts {
    pub runtime: Runtime,
    pub exchange: Exchange,
    pub streams: StreamTable,
    pub relays: RelayTasks,
    pub bundles: Bundles,
    pub disks: Disks,
    pub bounds: Bounds,
    /// What is done to a container's spec before runc reads it.
    pub spec: Policy,
    /// Whether TaskDelete is published here, or by the host.
    pub publish_delete: bool,
}

/// The registry; a handle.
#[derive(Clone)]
pub struct Tasks(Arc<Shared>);

struct Shared {
    parts: Parts,
    slots: Lock<Slots>,
    /// How many Creates are under way.
    creating: watch::Sender<usize>,
    /// The bundle of the first container that was created; sent at every Create.
    created: watch::Sender<Option<PathBuf>>,
    places: Arc<Semaphore>,
    followers: Tracked,
}

#[derive(Default)]
struct Slots {
    by_id: HashMap<ContainerId, Slot>,
    /// For good.
    closed: bool,
    /// For a while.
    shut: bool,
}

impl Slots {
    fn is_open(&self) -> bool {
        !self.closed && !self.shut
    }
}

/// What goes with an id: nobody else has it until the id is free again.
struct Slot {
    /// Canonical; `None` until its Create has found it.
    bundle: Option<PathBuf>,
    /// `None` while its Create is under way: no other call sees it.
    container: Option<Arc<Container>>,
    /// That of the init.
    _place: Place,
}

/// An id that a Create has taken; given back unless it was filled.
pub struct Reservation {
    tasks: Tasks,
    id: ContainerId,
}

impl Tasks {
    pub fn new(parts: Parts) -> Tasks {
        let (slots, creating, created) = (Lock::default(), watch::Sender::new(0), watch::Sender::new(None));
        let places = Arc::new(Semaphore::new(parts.bounds.processes));
        Tasks(Arc::new(Shared { parts, slots, creating, created, places, followers: Tracked::default() }))
    }

    pub(super) fn parts(&self) -> &Parts {
        &self.0.parts
    }

    /// Takes a place for one more process.
    pub(super) fn place(&self) -> Result<Place, TaskError> {
        self.0.places.clone().try_acquire_owned().map_err(|_| TaskError::TooManyProcesses)
    }

    pub(super) fn bundles(&self) -> &Bundles {
        &self.0.parts.bundles
    }

    /// Makes the bundle of a container that is to be created; not when that would be refused.
    pub async fn make_bundle(
        &self,
        id: &ContainerId,
        files: Vec<(FileName, Vec<u8>)>,
    ) -> Result<PathBuf, TaskError> {
        self.refuse_when_stopping()?;
        self.bundles().create(id, files).await
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.0.slots.lock()
    }

    /// Refuses what would begin new work during the stop.
    pub(super) fn refuse_when_stopping(&self) -> Result<(), TaskError> {
        match self.slots().is_open() {
            true => Ok(()),
            false => Err(TaskError::Stopping),
        }
    }

    /// The container of this id, once its Create is done.
    pub fn get(&self, id: &ContainerId) -> Result<Arc<Container>, TaskError> {
        let ready = self.slots().by_id.get(id).and_then(|slot| slot.container.clone());
        ready.ok_or_else(|| TaskError::NoContainer(id.clone()))
    }

    /// Takes an id for a Create.
    pub(super) fn reserve(&self, id: &ContainerId) -> Result<Reservation, TaskError> {
        let mut slots = self.slots();
        if !slots.is_open() {
            return Err(TaskError::Stopping);
        }
        if slots.by_id.contains_key(id) {
            return Err(TaskError::ContainerExists(id.clone()));
        }
        let slot = Slot { bundle: None, container: None, _place: self.place()? };
        slots.by_id.insert(id.clone(), slot);
        self.0.creating.send_modify(|creating| *creating += 1);
        Ok(Reservation { tasks: self.clone(), id: id.clone() })
    }

    /// Takes a bundle, by its canonical path, for a Create that has its id: to delete one of two containers in a bundle
    /// would take the root file system from under the other. Does not block.
    pub(super) fn reserve_bundle(&self, id: &ContainerId, bundle: PathBuf) -> Result<(), TaskError> {
        let mut slots = self.slots();
        let user = slots.by_id.iter().find(|(_, slot)| slot.bundle.as_ref() == Some(&bundle));
        if let Some((user, _)) = user {
            return Err(TaskError::BundleInUse { path: bundle, container: user.clone() });
        }
        // A Create that the stop gave up on has lost its id.
        let slot = slots.by_id.get_mut(id).ok_or(TaskError::Stopping)?;
        slot.bundle = Some(bundle);
        Ok(())
    }

    /// Changes at every Create that has succeeded; its value is the bundle of the first.
    pub fn creates(&self) -> watch::Receiver<Option<PathBuf>> {
        self.0.created.subscribe()
    }

    pub(super) fn remove(&self, id: &ContainerId) {
        self.slots().by_id.remove(id);
    }

    /// Waits until every process that was reaped has been told, but no longer than `limit`.
    pub(super) async fn finish_followers(&self, limit: Duration) {
        if !self.0.followers.finish(limit).await {
            tracing::warn!("exits were not told in time");
        }
    }

    /// Watches for OOM kills until the init of the container has ended.
    pub(super) fn watch_oom(&self, container: &Arc<Container>) {
        if let Some(watch) = oom::arm(container) {
            self.0.followers.spawn(oom::watch(container.clone(), watch));
        }
    }

    /// Follows a process to its end.
    pub(super) fn follow(&self, container: &Arc<Container>, who: ProcessId, exit: ExitOf) {
        let follower = settle::follow(self.clone(), container.clone(), who, exit);
        self.0.followers.spawn(follower);
    }

    /// Whether there is no container, not even one that is being created.
    pub fn is_empty(&self) -> bool {
        self.slots().by_id.is_empty()
    }

    /// Whether a container is being created, or has an init that has not ended.
    pub fn is_in_use(&self) -> bool {
        let creating = self.slots().by_id.values().any(|slot| slot.container.is_none());
        creating || self.all().iter().any(|container| container.processes().init.state.reaped().is_none())
    }

    /// From now on nothing new begins.
    pub(super) fn close(&self) {
        self.slots().closed = true;
    }

    /// The same, until it is said to be over. Says whether anything may begin now.
    pub(super) fn set_shut(&self, shut: bool) -> bool {
        let mut slots = self.slots();
        slots.shut = shut;
        slots.is_open()
    }

    /// Does work that the end of the daemon waits for, whoever else waits for it.
    pub(super) fn track(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.0.followers.spawn(work);
    }

    /// The bundles that containers have, or will have when their Create is done.
    pub(super) fn bundles_in_use(&self) -> Vec<PathBuf> {
        self.slots().by_id.values().filter_map(|slot| slot.bundle.clone()).collect()
    }

    /// Waits until no Create is under way.
    pub(super) async fn no_create_under_way(&self) {
        // It cannot fail: the sender lives as long as the registry.
        let _ = self.0.creating.subscribe().wait_for(|creating| *creating == 0).await;
    }

    /// Whether another container is in the cgroup of this one, or below it.
    pub(super) fn shares_cgroup(&self, container: &Container) -> bool {
        let Some(own) = &container.cgroup else { return false };
        let is_within = |other: &Container| other.cgroup.as_ref().is_some_and(|cgroup| cgroup.is_within(own));
        self.all().iter().any(|other| other.id != container.id && is_within(other))
    }

    /// The containers that there are.
    pub(super) fn all(&self) -> Vec<Arc<Container>> {
        self.slots().by_id.values().filter_map(|slot| slot.container.clone()).collect()
    }

    pub fn state(&self, id: &ContainerId, who: &ProcessId) -> Result<(PathBuf, Snapshot), TaskError> {
        let container = self.get(id)?;
        Ok((container.bundle.clone(), container.snapshot(who)?))
    }

    /// Ends the stdin of a process, if `stdin` says so, once what was written to it has been delivered. It may come
    /// before the start, after the exit, and again.
    pub fn close_io(&self, id: &ContainerId, who: &ProcessId, stdin: bool) -> Result<(), TaskError> {
        self.get(id)?.with(who, |entry| {
            if stdin {
                entry.close_stdin();
            }
        })
    }

    /// Waits for the exit of a process to be published. Dropping the future changes nothing.
    pub async fn wait(&self, id: &ContainerId, who: &ProcessId) -> Result<Reaped, TaskError> {
        let told = self.get(id)?.wait(who);
        told.await
    }
}

impl Reservation {
    /// The container is there.
    pub fn fill(self, container: Arc<Container>) {
        let bundle = container.bundle.clone();
        if let Some(slot) = self.tasks.slots().by_id.get_mut(&self.id) {
            slot.container = Some(container);
        }
        self.tasks.0.created.send_modify(|first| *first = first.take().or(Some(bundle)));
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut slots = self.tasks.slots();
        if slots.by_id.get(&self.id).is_some_and(|slot| slot.container.is_none()) {
            slots.by_id.remove(&self.id);
        }
        self.tasks.0.creating.send_modify(|creating| *creating -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{parts, EXECS};
    use super::*;

    fn id(n: u32) -> ContainerId {
        ContainerId::parse(&format!("c{n}")).expect("an id")
    }

    #[test]
    fn there_are_no_more_processes_than_there_are_places() {
        let tasks = Tasks::new(parts(Exchange::new(1)));
        let execs: Vec<Place> = (0..EXECS).map(|_| tasks.place().expect("a place")).collect();
        let init = tasks.reserve(&id(0)).expect("the last place");
        assert!(matches!(tasks.place(), Err(TaskError::TooManyProcesses)));
        assert!(matches!(tasks.reserve(&id(1)), Err(TaskError::TooManyProcesses)));
        drop(init);
        let init = tasks.reserve(&id(1)).expect("the place of one that failed");
        drop(execs);
        drop(tasks.place().expect("a place"));
        assert!(matches!(tasks.reserve(&id(1)), Err(TaskError::ContainerExists(_))));
        drop(init);
    }

    #[test]
    fn a_bundle_is_free_again_when_its_id_is() {
        let tasks = Tasks::new(parts(Exchange::new(1)));
        let (first, _second) = (tasks.reserve(&id(0)).expect("free"), tasks.reserve(&id(1)).expect("free"));
        tasks.reserve_bundle(&id(0), "/b".into()).expect("free");
        let taken = tasks.reserve_bundle(&id(1), "/b".into());
        assert!(matches!(taken, Err(TaskError::BundleInUse { container, .. }) if container == id(0)));
        drop(first);
        tasks.reserve_bundle(&id(1), "/b".into()).expect("free again");
        let lost = tasks.reserve_bundle(&id(0), "/c".into());
        assert!(matches!(lost, Err(TaskError::Stopping)));
    }
}
