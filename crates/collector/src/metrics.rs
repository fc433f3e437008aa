//! What the collector counts of itself.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Clones share the counters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    polls: Family<[(&'static str, &'static str); 1], Counter>,
    pods: Gauge,
    viewers: Gauge,
}

/// A page that is open, until it is dropped.
#[derive(Debug)]
pub(crate) struct Viewer(Gauge);

impl Metrics {
    /// With names, in the registry.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("collector_polls", "Sidecars asked for their stats", metrics.polls.clone());
        registry.register("collector_pods", "Pods that are watched", metrics.pods.clone());
        registry.register(
            "collector_viewers",
            "Streams of the dashboard that are open",
            metrics.viewers.clone(),
        );
        metrics
    }

    /// A sidecar was asked, and answered or not.
    pub(crate) fn polled(&self, answered: bool) {
        let result = if answered { "answered" } else { "failed" };
        self.polls.get_or_create(&[("result", result)]).inc();
    }

    /// So many pods are watched.
    pub(crate) fn watching(&self, pods: usize) {
        self.pods.set(i64::try_from(pods).unwrap_or(i64::MAX));
    }

    /// One more page is open.
    pub(crate) fn viewer(&self) -> Viewer {
        self.viewers.inc();
        Viewer(self.viewers.clone())
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.0.dec();
    }
}
