//! The last requests that failed, for `/stats`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use crate::reason::Reason;
use crate::routes::Route;

/// How many a port keeps.
const KEPT: usize = 50;

#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) at: Timestamp,
    pub(crate) route: Arc<Route>,
    pub(crate) code: u16,
    pub(crate) reason: Reason,
}

/// The last ones of a port: of each apart, so that one that fails all the time does not hide the others. The worker locks it
/// where a request fails, and the admin thread for as long as fifty take to be copied.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<VecDeque<Failure>>);

impl Failures {
    pub(crate) fn push(&self, failure: Failure) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() == KEPT {
            failures.pop_front();
        }
        failures.push_back(failure);
    }

    /// The oldest first.
    pub(crate) fn all(&self) -> Vec<Failure> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
