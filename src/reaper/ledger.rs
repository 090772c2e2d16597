//! The ledger: who waits for which pid, and the exits nobody has claimed yet. Pure: no kernel, no clock, no lock.
//!
//! The pid of a container's process is learnt only when `runc` has ended, by then the process may have ended too, and
//! its number may have been used again. So from the fork of a runc to the claim that closes its window, the exits of
//! unregistered pids are kept, in the order in which they were reaped.

use std::collections::{HashMap, VecDeque};

use super::{Pid, Reaped};

/// Exits kept at most; the oldest go first. A record is 40 bytes, and in the longest window (a create of 60 s) a
/// guest that forks without end reaps a few thousand orphans a second: those it keeps are the newest.
const KEPT_MAX: usize = 65_536;

/// Place of an exit in the order of reaping.
type Seq = u64;

/// Names an open window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowId(u64);

/// The answer to a claim.
#[derive(Debug, PartialEq, Eq)]
pub enum Claim<W> {
    /// It lives, or has not been reaped yet: the waiter is registered.
    Alive,
    /// It had been reaped already; the waiter is handed back to be told.
    Dead(W, Reaped),
    /// It is no child of ours and none of its exits was seen: the pid is wrong.
    Unknown,
}

struct Kept {
    seq: Seq,
    pid: Pid,
    reaped: Reaped,
}

struct OpenWindow {
    id: WindowId,
    runc: Pid,
    opened: Seq,
    runc_reaped: Option<Seq>,
}

/// `W` is whoever waits for one exit.
pub struct Ledger<W> {
    next_seq: Seq,
    next_window: u64,
    waiting: HashMap<Pid, W>,
    kept: VecDeque<Kept>,
    windows: Vec<OpenWindow>,
    /// Nobody reaps any more.
    abandoned: bool,
}

impl<W> Ledger<W> {
    pub fn new() -> Self {
        Ledger {
            next_seq: 0,
            next_window: 0,
            waiting: HashMap::new(),
            kept: VecDeque::new(),
            windows: Vec::new(),
            abandoned: false,
        }
    }

    /// Registers a child that was forked under the same lock, so that its exit cannot have been seen.
    pub fn register(&mut self, pid: Pid, waiter: W) {
        if !self.abandoned {
            self.waiting.insert(pid, waiter);
        }
    }

    /// Nobody reaps any more: drops all who wait, now and later.
    pub fn abandon(&mut self) {
        self.abandoned = true;
        self.waiting.clear();
    }

    /// Whether `pid` is registered and not reaped, so that its number is its own.
    pub fn is_waiting(&self, pid: Pid) -> bool {
        self.waiting.contains_key(&pid)
    }

    /// Who waits for `pid`.
    pub fn waiter(&self, pid: Pid) -> Option<&W> {
        self.waiting.get(&pid)
    }

    /// Opens the window of the runc just forked as `runc`.
    pub fn open(&mut self, runc: Pid) -> WindowId {
        let id = WindowId(self.next_window);
        self.next_window += 1;
        self.windows.push(OpenWindow { id, runc, opened: self.next_seq, runc_reaped: None });
        id
    }

    /// Takes note of an exit. Returns who waited for it; without one it is kept while any window is open.
    pub fn reaped(&mut self, pid: Pid, reaped: Reaped) -> Option<W> {
        let seq = self.next_seq;
        self.next_seq += 1;
        let waiter = self.waiting.remove(&pid);
        if waiter.is_some() {
            let own = self.windows.iter_mut().filter(|w| w.runc == pid && w.runc_reaped.is_none());
            own.for_each(|window| window.runc_reaped = Some(seq));
        } else if !self.windows.is_empty() {
            self.keep(Kept { seq, pid, reaped });
        }
        waiter
    }

    fn keep(&mut self, kept: Kept) {
        if self.kept.len() == KEPT_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(kept);
    }

    /// Says what became of `pid`, which the runc of this window left behind, and closes the window.
    ///
    /// `is_child` asks the kernel whether `pid` is a child not yet reaped. A recycled number cannot deceive it: while
    /// the process it named before was a zombie the number was not free, and that one's exit is among the kept.
    pub fn claim(
        &mut self,
        window: WindowId,
        pid: Pid,
        waiter: W,
        is_child: impl FnOnce(Pid) -> bool,
    ) -> Claim<W> {
        let Some(window) = self.remove(window) else { return Claim::Unknown };
        let runc_reaped = window.runc_reaped.unwrap_or(self.next_seq);
        let of_pid = |kept: &&Kept| kept.pid == pid && kept.seq >= window.opened;
        let after = self.kept.iter().filter(of_pid).position(|kept| kept.seq > runc_reaped);
        let mut exits = self.kept.iter().filter(of_pid);
        let answer = match after {
            Some(first) => exits.nth(first).map(|kept| kept.reaped),
            None if !self.waiting.contains_key(&pid) && is_child(pid) => {
                self.register(pid, waiter);
                self.prune();
                return Claim::Alive;
            }
            // Measured: a runc with several threads is reported after its child in 1 % of instant exits.
            None => exits.next_back().map(|kept| kept.reaped),
        };
        self.prune();
        answer.map_or(Claim::Unknown, |reaped| Claim::Dead(waiter, reaped))
    }

    /// Closes a window without a claim: its runc left nothing behind.
    pub fn close(&mut self, window: WindowId) {
        self.remove(window);
        self.prune();
    }

    fn remove(&mut self, window: WindowId) -> Option<OpenWindow> {
        let at = self.windows.iter().position(|open| open.id == window)?;
        Some(self.windows.remove(at))
    }

    /// Forgets the exits that no open window can ask for.
    fn prune(&mut self) {
        let oldest = self.windows.iter().map(|window| window.opened).min();
        match oldest {
            Some(oldest) => self.kept.retain(|kept| kept.seq >= oldest),
            None => self.kept = VecDeque::new(),
        }
    }
}

#[cfg(test)]
mod tests;
