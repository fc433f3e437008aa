//! What is counted for each port. The worker writes, the admin thread reads.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::latency::{Latency, Snapshot};
use crate::method::Method;
use crate::reason::Reason;

/// Series of `requests_total` that a port may have. An app that answers with every status there is must not cost the
/// memory of the pod, or of Prometheus; what comes later is counted as method and code `_OTHER`.
const SERIES_CAP: usize = 200;

/// Status classes, `1xx` to `5xx`.
pub(crate) const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// A count that one thread writes, the worker, and others read. So it needs no read-modify-write, which would cost the
/// request path a locked bus cycle for each.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(more), Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Labels of one series of `requests_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestKey {
    pub(crate) method: Method,
    /// Status, 0 for `_OTHER`.
    pub(crate) code: u16,
    pub(crate) reason: Reason,
}

/// The counters of all ports, those too that a changed config has given up: a counter that vanishes takes with it what
/// was not scraped yet. One entry for each name: two series with equal labels would make the whole scrape invalid. Clones
/// share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ports(Arc<Mutex<Vec<Arc<PortMetrics>>>>);

impl Ports {
    /// The counters of the port of that name.
    pub(crate) fn named(&self, name: &str, http: bool) -> Arc<PortMetrics> {
        let mut ports = self.lock();
        let known = ports.iter().find(|port| port.name == name).map(Arc::clone);
        let port = known.unwrap_or_else(|| {
            let port = Arc::new(PortMetrics { name: name.to_owned(), ..PortMetrics::default() });
            ports.push(Arc::clone(&port));
            port
        });
        if http {
            port.http.store(true, Relaxed);
            // So that a rate has a zero to start from, and a port that nobody calls is still seen.
            port.series(RequestKey { method: Method::Get, code: 200, reason: Reason::None });
        }
        port
    }

    pub(crate) fn all(&self) -> Vec<Arc<PortMetrics>> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<PortMetrics>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Series = Vec<(RequestKey, Arc<Counter>)>;

/// The counters of one port.
#[derive(Debug, Default)]
pub(crate) struct PortMetrics {
    /// The `port` label: the port's name in the config.
    pub(crate) name: String,
    /// Whether HTTP is or was spoken on it; if not, only connections and bytes are counted.
    http: AtomicBool,
    /// Locked only for a series' first request and by the admin thread: see [`RequestCounters`].
    requests: Mutex<Series>,
    /// By status class.
    latency: [Latency; CLASSES.len()],
    /// What of that was spent in the proxy.
    pub(crate) own_time: Latency,
    started: Counter,
    ended: Counter,
    pub(crate) request_body_bytes: Counter,
    pub(crate) response_body_bytes: Counter,
    /// Relayed connections, also those that did not get as far as the app.
    pub(crate) opened: Counter,
    /// By [`Reason`].
    closed: [Counter; Reason::ALL.len()],
    /// Bytes from the clients of relayed connections.
    pub(crate) read: Counter,
    /// Bytes to them.
    pub(crate) written: Counter,
}

impl PortMetrics {
    pub(crate) fn is_http(&self) -> bool {
        self.http.load(Relaxed)
    }

    fn series(&self, mut key: RequestKey) -> Arc<Counter> {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if requests.len() >= SERIES_CAP {
            (key.method, key.code) = (Method::Other, 0);
        }
        if let Some((_, count)) = requests.iter().find(|(known, _)| *known == key) {
            return Arc::clone(count);
        }
        let count = Arc::new(Counter::default());
        requests.push((key, Arc::clone(&count)));
        count
    }

    pub(crate) fn start(&self) {
        self.started.add(1);
    }

    pub(crate) fn end(&self, code: u16, duration: std::time::Duration) {
        self.ended.add(1);
        let class = usize::from(code / 100).clamp(1, CLASSES.len()) - 1;
        self.latency[class].observe(duration);
    }

    /// Requests in flight.
    pub(crate) fn active(&self) -> u64 {
        // In this order, so that a request between the two reads can't make it negative.
        let ended = self.ended.get();
        self.started.get().saturating_sub(ended)
    }

    /// A relayed connection has ended.
    pub(crate) fn close(&self, reason: Reason) {
        self.closed[reason as usize].add(1);
    }

    /// How many relayed connections ended for each reason.
    pub(crate) fn closed(&self) -> [(Reason, u64); Reason::ALL.len()] {
        Reason::ALL.map(|reason| (reason, self.closed[reason as usize].get()))
    }

    /// Relayed connections that are open.
    pub(crate) fn open_connections(&self) -> u64 {
        let closed = self.closed().iter().map(|(_, count)| count).sum();
        self.opened.get().saturating_sub(closed)
    }

    /// Every series of `requests_total`.
    pub(crate) fn requests(&self) -> Vec<(RequestKey, u64)> {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.iter().map(|(key, count)| (*key, count.get())).collect()
    }

    /// Durations by status class, in the order of [`CLASSES`].
    pub(crate) fn latency(&self) -> [Snapshot; CLASSES.len()] {
        std::array::from_fn(|class| self.latency[class].snapshot())
    }
}

/// The worker's own handles to the series of `requests_total`, so that a request takes no lock and hashes no string.
///
/// A scan rather than a map: a port sees a handful of combinations.
#[derive(Debug, Default)]
pub(crate) struct RequestCounters(RefCell<Series>);

impl RequestCounters {
    pub(crate) fn count(&self, metrics: &PortMetrics, key: RequestKey) {
        let mut known = self.0.borrow_mut();
        if let Some((_, count)) = known.iter().find(|(seen, _)| *seen == key) {
            count.add(1);
            return;
        }
        let count = metrics.series(key);
        count.add(1);
        if known.len() < SERIES_CAP {
            known.push((key, count));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_capped_and_no_request_is_lost() {
        let (metrics, counters) = (Ports::default().named("http", true), RequestCounters::default());
        let reason = Reason::None;
        for code in 0..500 {
            let code = 100 + code;
            counters.count(&metrics, RequestKey { method: Method::Post, code, reason });
        }
        let requests = metrics.requests();
        assert_eq!(requests.len(), SERIES_CAP + 1);
        assert_eq!(requests.iter().map(|(_, count)| count).sum::<u64>(), 500);
    }
}
