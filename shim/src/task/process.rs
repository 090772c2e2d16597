//! One process of a container as the host tells of it: how far it is, and how it ended. Owns that an end is told once;
//! never asks the guest.

use tokio::sync::watch;

use crate::events::Stdio;
use crate::state::Exit;
use crate::stdio::Relays;

/// How far a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Created,
    Running,
    Paused,
    Stopped,
}

/// What State answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub bundle: String,
    /// As the host reports it; 0 of an exec that was not started.
    pub pid: u32,
    pub status: Status,
    pub stdio: Stdio,
    pub exit: Option<Exit>,
}

/// An init or an exec.
#[derive(Debug)]
pub(super) struct Process {
    /// In the guest; 0 until it is known.
    pub guest_pid: u32,
    pub started: bool,
    pub stdio: Stdio,
    pub relays: Option<Relays>,
    /// Its end is known, and on its way to those who wait.
    ending: bool,
    /// Somebody has said that its stdin is to end.
    closing: bool,
    exit: watch::Sender<Option<Exit>>,
}

impl Process {
    /// One that was created.
    pub fn new(stdio: Stdio, relays: Relays) -> Process {
        let relays = Some(relays);
        let exit = watch::Sender::new(None);
        Process { guest_pid: 0, started: false, stdio, relays, ending: false, closing: false, exit }
    }

    pub fn status(&self, paused: bool) -> Status {
        match (self.exit().is_some(), self.started) {
            (true, _) => Status::Stopped,
            (false, true) if paused => Status::Paused,
            (false, true) => Status::Running,
            (false, false) => Status::Created,
        }
    }

    pub fn exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// For those who wait for its end; it closes when the process is deleted.
    pub fn watch(&self) -> watch::Receiver<Option<Exit>> {
        self.exit.subscribe()
    }

    /// Notes that its end is known; false if it was before.
    pub fn begin_to_end(&mut self) -> bool {
        !std::mem::replace(&mut self.ending, true)
    }

    /// Notes that its stdin is to end; false if that was known.
    pub fn begin_to_close(&mut self) -> bool {
        !std::mem::replace(&mut self.closing, true)
    }

    pub fn is_ending(&self) -> bool {
        self.ending
    }

    /// Tells those who wait.
    pub fn end(&self, exit: Exit) {
        self.exit.send_replace(Some(exit));
    }
}
