//! One container and its processes, as the host tells of them. Owns what State and Wait answer, the order of exits, and
//! what is published; everything in it comes from the guest's events, or from the end of its machine.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::process::{Process, Snapshot};
use super::record::Record;
use super::TaskError;
use crate::client::{Event as Guest, INIT};
use crate::events::{container_of, host_pid, rewrite, Event, Exited, Names, Publisher};
use crate::state::Exit;
use crate::stdio::{Relays, EXIT_DRAIN};

/// A container of the machine.
#[derive(Debug)]
pub(super) struct Container {
    names: Names,
    publisher: Publisher,
    record: Arc<Record>,
    table: Mutex<Table>,
    /// Exits that wait for output, each for [`EXIT_DRAIN`] at most; the init's waits for the others.
    exits: TaskTracker,
}

#[derive(Debug, Default)]
struct Table {
    /// The guest has said so: before that there is nothing that could end.
    created: bool,
    paused: bool,
    /// By exec id; the init's is [`INIT`].
    processes: BTreeMap<String, Process>,
}

impl Container {
    pub fn new(names: Names, publisher: Publisher, record: Arc<Record>, init: Relays) -> Container {
        let mut table = Table::default();
        table.processes.insert(INIT.to_owned(), Process::new(names.stdio.clone(), init));
        Container { names, publisher, record, table: Mutex::new(table), exits: TaskTracker::new() }
    }

    pub fn id(&self) -> &str {
        &self.names.container_id
    }

    /// The host's process that stands for the init.
    pub fn init_pid(&self) -> u32 {
        self.names.init_pid
    }

    /// Notes that the guest has created it.
    pub fn created(&self) {
        self.table().created = true;
    }

    /// Notes that whoever created a process is being told.
    pub fn answered(&self, exec_id: &str) {
        let table = self.table();
        if let Some(relays) = table.processes.get(exec_id).and_then(|process| process.relays.as_ref()) {
            relays.hold_stdin();
        }
    }

    /// Takes an exec in that the guest has accepted.
    pub fn add(&self, exec_id: &str, process: Process) {
        self.table().processes.insert(exec_id.to_owned(), process);
    }

    /// Notes that a process was started; an answer and an event say so, in any order. Gives the pid to report.
    pub fn started(&self, exec_id: &str, guest_pid: u32) -> u32 {
        if let Some(process) = self.table().processes.get_mut(exec_id) {
            process.started = true;
            process.guest_pid = guest_pid;
        }
        self.names.pid(exec_id, guest_pid)
    }

    fn pid_is_known(&self, guest_pid: u32) {
        if let Some(init) = self.table().processes.get_mut(INIT) {
            init.guest_pid = guest_pid;
        }
    }

    pub fn paused(&self, paused: bool) {
        self.table().paused = paused;
    }

    pub fn snapshot(&self, exec_id: &str) -> Result<Snapshot, TaskError> {
        let table = self.table();
        self.find(&table, exec_id).map(|process| Snapshot {
            bundle: self.names.bundle.clone(),
            pid: self.names.pid(exec_id, process.guest_pid),
            status: process.status(table.paused),
            stdio: process.stdio.clone(),
            exit: process.exit(),
        })
    }

    /// What a pid of the guest is reported as.
    pub fn report_pid(&self, guest_pid: u32) -> u32 {
        let table = self.table();
        match table.processes.get(INIT) {
            Some(init) if init.guest_pid == guest_pid => self.names.init_pid,
            _ => host_pid(guest_pid),
        }
    }

    /// For Wait: the exit, once it was published.
    pub fn watch(&self, exec_id: &str) -> Result<watch::Receiver<Option<Exit>>, TaskError> {
        self.find(&self.table(), exec_id).map(Process::watch)
    }

    /// Has stdin end with its last client. Gives what to wait for before the guest is told, to the first who asks.
    pub fn close_stdin(
        &self,
        exec_id: &str,
    ) -> Result<Option<impl Future<Output = ()> + Send + 'static>, TaskError> {
        let mut table = self.table();
        self.find(&table, exec_id)?;
        let process = table.processes.get_mut(exec_id).filter(|process| process.relays.is_some());
        let process = process.ok_or_else(|| TaskError::Finished(self.process_name(exec_id)))?;
        let first = process.begin_to_close();
        let relays = process.relays.as_ref().filter(|_| first);
        Ok(relays.map(|relays| {
            relays.close_stdin();
            relays.stdin_ended()
        }))
    }

    /// Takes a process out for good.
    pub fn remove(&self, exec_id: &str) -> Option<Process> {
        self.table().processes.remove(exec_id)
    }

    /// Takes the relays of all processes.
    pub fn take_relays(&self) -> Vec<Relays> {
        self.table().processes.values_mut().filter_map(|process| process.relays.take()).collect()
    }

    /// Takes in what the guest says, and publishes it in the host's words.
    pub fn hear(self: &Arc<Self>, event: Guest) {
        if container_of(&event) != Some(self.id()) {
            return;
        }
        match &event {
            Guest::Exit { id, status, .. } => {
                let exec_id = if self.names.is_init(id) { INIT } else { id };
                return self.ended(exec_id, *status);
            }
            // The end of a task is told when nothing of it is left on the host.
            Guest::Delete { .. } => return,
            Guest::Create { pid, .. } => self.pid_is_known(*pid),
            Guest::Start { pid, .. } => drop(self.started(INIT, *pid)),
            Guest::ExecStarted { exec_id, pid, .. } => drop(self.started(exec_id, *pid)),
            Guest::Paused { .. } => self.paused(true),
            Guest::Resumed { .. } => self.paused(false),
            _ => {}
        }
        if let Some(event) = rewrite(event, &self.names) {
            self.publisher.publish(event);
        }
    }

    /// Tells the end of a process: once its output has been written, or the bound for that has passed, and that of the
    /// init behind all others that are known. Only the first call for a process counts.
    ///
    /// It is dated now, by the host's clock: the guest's may be a second off, and clients compare the times.
    pub fn ended(self: &Arc<Self>, exec_id: &str, status: u32) {
        let exit = Exit { status, at: SystemTime::now() };
        let (drained, others) = {
            let mut table = self.table();
            let Some(process) = table.processes.get_mut(exec_id) else { return };
            if !process.begin_to_end() {
                return;
            }
            let drained = process.relays.as_ref().map(|relays| relays.drained(EXIT_DRAIN));
            let ending = |(id, process): &(&String, &Process)| *id != INIT && process.is_ending();
            let others = table.processes.iter().filter(|entry| exec_id == INIT && ending(entry));
            (drained, others.map(|(_, process)| process.watch()).collect::<Vec<_>>())
        };
        let (container, exec_id) = (Arc::clone(self), exec_id.to_owned());
        self.exits.spawn(async move {
            if let Some(drained) = drained {
                if !drained.await {
                    tracing::info!(
                        id = container.id(),
                        exec_id,
                        "an exit is told before all output was written"
                    );
                }
            }
            container.tell(&exec_id, exit, others).await;
        });
    }

    async fn tell(&self, exec_id: &str, exit: Exit, others: Vec<watch::Receiver<Option<Exit>>>) {
        for mut other in others {
            // An exec that was deleted meanwhile has told.
            let _ = other.wait_for(Option::is_some).await;
        }
        if exec_id == INIT {
            if let Err(error) = self.record.change(|state| state.exit = Some(exit)) {
                tracing::warn!(id = self.id(), "cannot {error}");
            }
        }
        let table = self.table();
        let Some(process) = table.processes.get(exec_id) else { return };
        let id = if exec_id == INIT { self.id().to_owned() } else { exec_id.to_owned() };
        let pid = self.names.pid(exec_id, process.guest_pid);
        tracing::info!(id = self.id(), exec_id, pid, status = exit.status, "exited");
        self.publisher.publish(Event::exit(self.exited(id, pid, exit)));
        process.end(exit);
    }

    /// Tells the ends of all that have not ended: of every exec that was started, and of the init.
    pub fn all_ended(self: &Arc<Self>, status: u32) {
        let mut left: Vec<String> = {
            let table = self.table();
            let live = table
                .processes
                .iter()
                .filter(|(id, process)| process.started || (table.created && *id == INIT));
            live.map(|(id, _)| id.clone()).collect()
        };
        // The init is the first by its name, and is to be the last.
        left.reverse();
        for exec_id in left {
            self.ended(&exec_id, status);
        }
    }

    /// Publishes that nothing of the task is left.
    pub fn publish_deleted(&self, exit: Exit) {
        self.publisher.publish(Event::delete(self.exited(String::new(), self.init_pid(), exit)));
    }

    fn exited(&self, id: String, pid: u32, exit: Exit) -> Exited {
        let container_id = self.id().to_owned();
        Exited { container_id, id, pid, exit_status: exit.status, exited_at: exit.at }
    }

    fn find<'a>(&self, table: &'a Table, exec_id: &str) -> Result<&'a Process, TaskError> {
        let found = table.processes.get(exec_id);
        found.ok_or_else(|| TaskError::NoProcess { id: self.id().to_owned(), exec: exec_id.to_owned() })
    }

    /// For errors.
    pub fn process_name(&self, exec_id: &str) -> String {
        match exec_id {
            INIT => self.id().to_owned(),
            exec_id => format!("{exec_id} of {}", self.id()),
        }
    }

    /// No code panics while it holds the lock.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
