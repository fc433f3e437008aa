//! What is counted of a route, and all routes of a port.

use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::counter::Counter;
use crate::method::Method;
use crate::reason::{OTHER, Reason};
use crate::routes::quantiles::Quantiles;

/// Statuses that a route counts apart.
const CODES: usize = 8;

/// What is counted of a route.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: Box<str>,
    /// By status, 0 where there is none yet. What does not fit is told by the difference to all.
    codes: [(AtomicU16, Counter); CODES],
    /// Requests that failed, with or without an answer of the app.
    pub(crate) failed: Counter,
    pub(crate) durations: Quantiles,
    pub(crate) request_body_bytes: Counter,
    pub(crate) response_body_bytes: Counter,
}

/// A request that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) code: u16,
    pub(crate) reason: Reason,
    pub(crate) duration: Duration,
    pub(crate) request_body_bytes: u64,
    pub(crate) response_body_bytes: u64,
}

impl Ended {
    /// Whether somebody should know: the app failed, or its answer did not reach the client whole.
    pub(crate) fn is_failure(&self) -> bool {
        self.reason != Reason::None || self.code >= 500
    }
}

impl Route {
    fn new(method: Method, path: &str) -> Self {
        Self {
            method,
            path: path.into(),
            codes: Default::default(),
            failed: Counter::default(),
            durations: Quantiles::default(),
            request_body_bytes: Counter::default(),
            response_body_bytes: Counter::default(),
        }
    }

    pub(crate) fn observe(&self, ended: &Ended) {
        self.request_body_bytes.add(ended.request_body_bytes);
        self.response_body_bytes.add(ended.response_body_bytes);
        self.failed.add(u64::from(ended.is_failure()));
        let mut codes = self.codes.iter();
        let is_it = |(code, _): &&(AtomicU16, Counter)| [0, ended.code].contains(&code.load(Relaxed));
        if let Some((code, count)) = codes.find(is_it) {
            code.store(ended.code, Relaxed);
            count.add(1);
        }
        // Last: who reads them first finds no more requests than statuses.
        self.durations.observe(ended.duration);
    }

    /// Those that occurred.
    pub(crate) fn codes(&self) -> impl Iterator<Item = (u16, u64)> {
        let counted = self.codes.iter().map(|(code, count)| (code.load(Relaxed), count.get()));
        counted.filter(|(_, count)| *count > 0)
    }
}

/// All routes of a port; the first is for what has none of its own. Locked only for a route's first request and by the admin
/// thread: see [`WorkersRoutes`](super::WorkersRoutes).
#[derive(Debug)]
pub(crate) struct AllRoutes(Mutex<Vec<Arc<Route>>>);

impl Default for AllRoutes {
    fn default() -> Self {
        Self(Mutex::new(vec![Arc::new(Route::new(Method::Other, OTHER))]))
    }
}

impl AllRoutes {
    pub(crate) fn all(&self) -> Vec<Arc<Route>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where the route stands, which is made if there may be one more.
    pub(crate) fn of(&self, method: Method, path: &str, most: usize) -> usize {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.iter().position(|route| route.method == method && *route.path == *path) {
            return known;
        }
        if all.len() > most {
            return 0;
        }
        all.push(Arc::new(Route::new(method, path)));
        all.len() - 1
    }
}
