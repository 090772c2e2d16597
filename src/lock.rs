//! A lock for short steps of plain code, the only kind of lock there is here. Never held over an await.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A `std` mutex that a panic does not close. What it guards is changed in steps that leave it whole or are bugs of
/// ours; either way the rest of the guest must be able to go on and to be stopped.
#[derive(Default)]
pub struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    pub const fn new(value: T) -> Lock<T> {
        Lock(Mutex::new(value))
    }

    /// Blocks for as long as another step takes.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lock")
    }
}
