//! The one thread that writes to fd 2. Whoever logs hands a line over and goes on.

use std::sync::{Condvar, MutexGuard};
use std::time::Duration;

use super::format::Format;
use super::queue::{Queue, Room};
use crate::lock::Lock;
use crate::sys::{clock, console, thread};

/// It calls little more than write(2).
const STACK_BYTES: usize = 64 * 1024;

static STATE: Lock<State> =
    Lock::new(State { queue: Queue::new(), writer: Writer::NotYet, asked: 0, drained: 0 });

/// Signalled when a line is there, a flush is asked for, or one is done.
static CHANGED: Condvar = Condvar::new();

struct State {
    queue: Queue,
    writer: Writer,
    /// Flushes that were asked for.
    asked: u64,
    /// How many of them are done.
    drained: u64,
}

#[derive(PartialEq, Eq)]
enum Writer {
    /// Lines are kept until there is one.
    NotYet,
    Thread,
    /// The thread could not be started: whoever logs writes.
    Caller,
}

/// Starts the thread.
pub(super) fn start(format: Format) {
    let builder = std::thread::Builder::new().name("logger".into()).stack_size(STACK_BYTES);
    let started = builder.spawn(write_forever);
    let mut state = STATE.lock();
    state.queue.format = format;
    state.writer = match started {
        Ok(_) => Writer::Thread,
        Err(_) => Writer::Caller,
    };
    settle(&mut state);
}

/// Hands a line over. It waits for nobody but another that does the same.
pub(super) fn push(line: String, room: Room) {
    let mut state = STATE.lock();
    state.queue.push(line, room, clock::uptime());
    settle(&mut state);
}

/// Wakes the writer, or is it.
fn settle(state: &mut MutexGuard<'_, State>) {
    match state.writer {
        Writer::NotYet => {}
        Writer::Thread => CHANGED.notify_all(),
        Writer::Caller => {
            while let Some(text) = state.queue.take(clock::uptime()) {
                console::write_all(text.as_bytes());
            }
        }
    }
}

/// Waits until everything handed over so far has left fd 2, but no longer than `most`.
pub(super) fn flush(most: Duration) {
    let mut state = STATE.lock();
    if state.writer != Writer::Thread {
        return;
    }
    state.asked += 1;
    let mine = state.asked;
    CHANGED.notify_all();
    // A lock that a panic has poisoned guards nothing that could be broken.
    drop(CHANGED.wait_timeout_while(state, most, |state| state.drained < mine));
}

/// A serial console takes milliseconds of the processor for a line, which whoever waits for an answer is to have first.
/// Only while no lock is held, which others would wait for in turn. If it cannot be done, the lines come all the same.
fn behind_others(write: impl FnOnce()) {
    let _ = thread::yield_to_others();
    write();
    let _ = thread::yield_no_more();
}

fn write_forever() {
    let mut state = STATE.lock();
    loop {
        let asked = state.asked;
        if let Some(text) = state.queue.take(clock::uptime()) {
            drop(state);
            behind_others(|| console::write_all(text.as_bytes()));
            drop(text);
            state = STATE.lock();
        } else if state.drained < asked {
            drop(state);
            behind_others(console::drain);
            state = STATE.lock();
            state.drained = asked;
            CHANGED.notify_all();
        } else {
            state = CHANGED.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }
}
