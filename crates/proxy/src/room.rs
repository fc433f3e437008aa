//! How many requests at a time, and how many wait for their turn.

use std::cell::Cell;
use std::time::Duration;

use outrigger_api::traffic::LimitsSpec;
use tokio::sync::Semaphore;

use crate::counter::Counter;
use crate::reason::Reason;

/// So many requests at a time, and a line of so many more, in the order in which they came.
#[derive(Debug)]
pub(crate) struct Room {
    free: Semaphore,
    most_pending: usize,
    /// The longest that one waits.
    patience: Duration,
    pending: Cell<usize>,
}

/// A request that waits, until this is dropped.
struct Pending<'a> {
    room: &'a Room,
    all: &'a Counter,
}

impl Room {
    /// `None` where there is room for any number.
    pub(crate) fn of(limits: &LimitsSpec) -> Option<Self> {
        let most = limits.max_requests?;
        Some(Self {
            free: Semaphore::new(most as usize),
            most_pending: limits.max_pending.map_or(0, |most| most as usize),
            patience: limits.patience(),
            pending: Cell::new(0),
        })
    }

    /// Whether there is a line.
    pub(crate) fn may_wait(&self) -> bool {
        self.most_pending > 0
    }

    /// Takes a place, which [`Self::leave`] gives back. Who waits comes first.
    pub(crate) fn try_enter(&self) -> Result<(), Reason> {
        match self.free.try_acquire() {
            Ok(place) => {
                place.forget();
                Ok(())
            }
            Err(_) => Err(Reason::TooManyRequests),
        }
    }

    /// As [`Self::try_enter`], and waits for a place where there is none. Whether it did. Those who wait are counted in `all`.
    pub(crate) async fn enter(&self, all: &Counter) -> Result<bool, Reason> {
        if self.try_enter().is_ok() {
            return Ok(false);
        }
        if self.pending.get() >= self.most_pending {
            return Err(if self.may_wait() { Reason::TooManyPending } else { Reason::TooManyRequests });
        }
        let _pending = Pending::in_line(self, all);
        match tokio::time::timeout(self.patience, self.free.acquire()).await {
            Ok(Ok(place)) => {
                place.forget();
                Ok(true)
            }
            _ => Err(Reason::PendingTimeout),
        }
    }

    pub(crate) fn leave(&self) {
        self.free.add_permits(1);
    }
}

impl<'a> Pending<'a> {
    fn in_line(room: &'a Room, all: &'a Counter) -> Self {
        room.pending.set(room.pending.get() + 1);
        all.add(1);
        Self { room, all }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.room.pending.set(self.room.pending.get() - 1);
        self.all.subtract(1);
    }
}
