//! What was done, in numbers. Only counts.

use std::fmt;
use std::ops::AddAssign;

/// What one worker, or all of them, have done.
#[derive(Debug, Default, Clone, Copy)]
pub struct Totals {
    /// Containers from create to delete.
    pub lives: u64,
    /// Execs from start to delete, terminals among them.
    pub execs: u64,
    /// Bytes of payload whose checksum was compared.
    pub bytes: u64,
    /// Processes with a terminal.
    pub terminals: u64,
    /// Signals that ended something.
    pub kills: u64,
    pub pauses: u64,
    /// Subscriptions to the events.
    pub subscriptions: u64,
    /// Connections cut, streams dropped, and callers that gave up.
    pub drops: u64,
}

impl AddAssign for Totals {
    fn add_assign(&mut self, more: Self) {
        self.lives += more.lives;
        self.execs += more.execs;
        self.bytes += more.bytes;
        self.terminals += more.terminals;
        self.kills += more.kills;
        self.pauses += more.pauses;
        self.subscriptions += more.subscriptions;
        self.drops += more.drops;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lives, execs, bytes, terminals, kills, pauses, subscriptions, drops } = self;
        let mib = bytes >> 20;
        write!(f, "{lives} lives, {execs} execs, {mib} MiB, {terminals} terminals, {kills} kills, ")?;
        write!(f, "{pauses} pauses, {subscriptions} subscriptions, {drops} drops")
    }
}
