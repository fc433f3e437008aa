//! Requests by what Prometheus is to tell apart: the series of `http_requests_total`, and the durations of each.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::latency::{Latency, REQUEST, Snapshot};
use crate::method::Method;
use crate::reason::{OTHER, Reason};
use crate::request::Version;

/// Series that a port may have. An app that answers with every status there is must not cost the memory of the pod, or of
/// Prometheus; what comes later is counted as method and code `_OTHER`.
const CAP: usize = 200;

/// Status classes, `1xx` to `5xx`.
pub(crate) const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Labels of one series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RequestKey {
    pub(crate) version: Version,
    pub(crate) method: Method,
    /// Status. Of those beyond [`CAP`] only its class is left, 1 to 5.
    pub(crate) code: u16,
    pub(crate) reason: Reason,
}

impl RequestKey {
    /// Which of [`CLASSES`] it is of. There are apps that answer with a 700.
    pub(crate) fn class(self) -> usize {
        let class = if self.is_beyond_cap() { self.code } else { self.code / 100 };
        usize::from(class).clamp(1, CLASSES.len()) - 1
    }

    /// The `code` label.
    pub(crate) fn code_label(self) -> String {
        if self.is_beyond_cap() { OTHER.to_owned() } else { self.code.to_string() }
    }

    /// Whether there were too many series to give it one of its own.
    pub(crate) fn is_beyond_cap(self) -> bool {
        self.code < 100
    }

    fn beyond_cap(self) -> Self {
        let class = u16::try_from(self.class() + 1).unwrap_or_default();
        Self { method: Method::Other, code: class, ..self }
    }
}

/// The requests of one series. How many there are is told by their durations.
type Series = Vec<(RequestKey, Arc<Latency>)>;

/// All series of a port. Locked only for a series' first request and by the admin thread: see [`WorkersSeries`].
#[derive(Debug, Default)]
pub(crate) struct AllSeries(Mutex<Series>);

impl AllSeries {
    pub(crate) fn of(&self, mut key: RequestKey) -> Arc<Latency> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= CAP && all.iter().all(|(known, _)| *known != key) {
            key = key.beyond_cap();
        }
        if let Some((_, durations)) = all.iter().find(|(known, _)| *known == key) {
            return Arc::clone(durations);
        }
        let durations = Arc::new(Latency::new(&REQUEST));
        all.push((key, Arc::clone(&durations)));
        durations
    }

    /// What each has counted.
    pub(crate) fn snapshot(&self) -> BTreeMap<RequestKey, Snapshot> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(key, durations)| (*key, durations.snapshot())).collect()
    }
}

/// The worker's own handles, so that a request takes no lock and hashes no string.
///
/// A scan rather than a map: a port sees a handful of combinations.
#[derive(Debug, Default)]
pub(crate) struct WorkersSeries(RefCell<Series>);

impl WorkersSeries {
    pub(crate) fn observe(&self, all: &AllSeries, key: RequestKey, duration: Duration) {
        let mut known = self.0.borrow_mut();
        if let Some((_, durations)) = known.iter().find(|(seen, _)| *seen == key) {
            return durations.observe(duration);
        }
        let durations = all.of(key);
        durations.observe(duration);
        if known.len() < CAP {
            known.push((key, durations));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_capped_and_no_request_is_lost() {
        let (all, workers) = (AllSeries::default(), WorkersSeries::default());
        for code in 100..600 {
            let key =
                RequestKey { version: Version::Http11, method: Method::Post, code, reason: Reason::None };
            workers.observe(&all, key, Duration::ZERO);
        }
        let counted = all.snapshot();
        assert!(counted.len() <= CAP + CLASSES.len(), "{}", counted.len());
        let mut classes = [0; CLASSES.len()];
        for (key, durations) in &counted {
            classes[key.class()] += durations.count();
        }
        assert_eq!(classes, [100; 5], "each in its class");
        let beyond = counted.iter().filter(|(key, _)| key.is_beyond_cap());
        assert_eq!(beyond.map(|(_, durations)| durations.count()).sum::<u64>(), 300);
    }
}
