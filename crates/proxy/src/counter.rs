//! A number that the worker counts and the admin thread reads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A count that one thread writes, the worker, and others read. So it needs no read-modify-write, which would cost the
/// request path a locked bus cycle for each.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(more), Relaxed);
    }

    /// For what goes up and down.
    pub(crate) fn subtract(&self, less: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(less), Relaxed);
    }

    /// For the most there was.
    pub(crate) fn raise(&self, value: u64) {
        if value > self.0.load(Relaxed) {
            self.0.store(value, Relaxed);
        }
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
