//! What the webhook counts.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::decision::INJECTED;

/// Upper bounds in seconds. A decision takes some 100 µs; the last ones show a slow API server, which is asked where
/// the caches are behind.
const DURATIONS: [f64; 13] =
    [50e-6, 100e-6, 150e-6, 200e-6, 300e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 25e-3, 100e-3, 500e-3, 1.0];

/// The reasons of `error`.
pub(crate) const ERRORS: [&str; 8] = [
    "WrongContentType",
    "UnreadableBody",
    "BodyTooLarge",
    "Overloaded",
    "MalformedReview",
    "NoDecision",
    "Timeout",
    "Bug",
];

/// Labels of an admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Admitted {
    /// `injected`, `skipped`, `rejected` or `error`.
    pub result: &'static str,
    /// The reason's code; `Injected` for `injected`.
    pub reason: &'static str,
    /// `true` or `false`; `unknown` for an `error`, where mostly no review could be read.
    pub dry_run: &'static str,
}

/// Labels of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EventResult {
    /// `published`, `failed`, `merged` with one that was waiting, or `dropped`.
    pub result: &'static str,
}

/// Labels of pods that run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PodStanding {
    /// Their namespace, or `_other` for those beyond the first 200.
    pub namespace: String,
    /// `current`, `reconfigurable`, `outdated`, `missing`, `refused` or `unknown`.
    pub standing: &'static str,
}

/// Labels of something that was done to a pod or a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    /// `done` or `failed`.
    pub result: &'static str,
}

impl Outcome {
    pub(crate) fn of<T, E>(result: &Result<T, E>) -> Self {
        Self { result: if result.is_ok() { "done" } else { "failed" } }
    }
}

/// Labels of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Watched {
    /// `namespaces` or `sidecarprofiles`.
    pub resource: &'static str,
}

/// The webhook's metrics; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Admissions by their result.
    pub admissions: Family<Admitted, Counter>,
    /// From the whole body being there to the answer.
    pub admission_duration: Histogram,
    /// Profiles in the cache.
    pub profiles: Gauge,
    /// Namespaces in the cache.
    pub namespaces: Gauge,
    /// Watches that had to start again after a failure.
    pub watch_restarts: Family<Watched, Counter>,
    /// Questions asked of the API server because a cache was behind.
    pub lookups: Family<Watched, Counter>,
    /// Kubernetes Events by what became of them.
    pub events: Family<EventResult, Counter>,
    /// Pods that run, by how they stand beside what they would get now.
    pub pods: Family<PodStanding, Gauge>,
    /// Looks at all pods that came to their end.
    pub audits: Counter,
    /// Looks that failed.
    pub audit_failures: Counter,
    /// Pods brought up to date as they ran.
    pub reloads: Family<Outcome, Counter>,
    /// Writes of a profile's status.
    pub profile_statuses: Family<Outcome, Counter>,
    /// Proxies that were told that the work is done.
    pub finishes: Family<Outcome, Counter>,
    /// Whether this replica looks after running pods.
    pub leading: Gauge,
    /// End of the served certificate, since the Unix epoch.
    pub certificate_expiry: Gauge,
    /// Attempts to bring the certificate in order that failed.
    pub certificate_failures: Counter,
    /// Times that the caBundle was written.
    pub ca_bundle_patches: Counter,
    /// TLS connections that are open.
    pub connections: Gauge,
    /// TLS connections closed to make room for another.
    pub connections_evicted: Counter,
    /// TLS handshakes that failed.
    pub handshake_failures: Counter<u64, AtomicU64>,
}

impl Metrics {
    /// Registers them as `outrigger_webhook_*`, given the registry whose prefix is `outrigger`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::unregistered();
        // A series that appears with its first count shows no increase, so an alert would miss the first error. Not the
        // reasons of pods: which result each has is injection's to say, and nobody is to be woken by one.
        let errors = ERRORS.map(|reason| ("error", reason, "unknown"));
        for (result, reason, dry_run) in errors.into_iter().chain([("injected", INJECTED, "false")]) {
            metrics.admissions.get_or_create(&Admitted { result, reason, dry_run }).inc_by(0);
        }
        let registry = registry.sub_registry_with_prefix("webhook");
        let m = metrics.clone();
        registry.register("admissions", "Admissions by their result", m.admissions);
        let help = "Time from the whole request to the answer, in seconds";
        registry.register("admission_duration_seconds", help, m.admission_duration);
        registry.register("profiles", "Profiles in the cache", m.profiles);
        registry.register("namespaces", "Namespaces in the cache", m.namespaces);
        registry.register("watch_restarts", "Watches started again after a failure", m.watch_restarts);
        registry.register("lookups", "Questions asked because a cache was behind", m.lookups);
        registry.register("events", "Kubernetes Events by what became of them", m.events);
        let help = "Pods that run, by how they stand beside what they would get now";
        registry.register("pods", help, m.pods);
        registry.register("audits", "Looks at all pods that came to their end", m.audits);
        registry.register("audit_failures", "Looks at all pods that failed", m.audit_failures);
        registry.register("reloads", "Pods brought up to date as they ran", m.reloads);
        registry.register("profile_statuses", "Writes of a profile's status", m.profile_statuses);
        registry.register("finishes", "Proxies told that the work of their pod is done", m.finishes);
        registry.register("leading", "Whether this replica looks after running pods", m.leading);
        let help = "End of the served certificate, since the Unix epoch";
        registry.register("certificate_expiry_timestamp_seconds", help, m.certificate_expiry);
        let help = "Failed attempts to bring the certificate in order";
        registry.register("certificate_failures", help, m.certificate_failures);
        registry.register("ca_bundle_patches", "Times that the caBundle was written", m.ca_bundle_patches);
        registry.register("connections", "Open TLS connections", m.connections);
        let help = "TLS connections closed to make room for another";
        registry.register("connections_evicted", help, m.connections_evicted);
        registry.register("handshake_failures", "Failed TLS handshakes", m.handshake_failures);
        metrics
    }

    /// Counts an admission.
    pub(crate) fn count(&self, result: &'static str, reason: &'static str, dry_run: &'static str) {
        self.admissions.get_or_create(&Admitted { result, reason, dry_run }).inc();
    }

    /// Metrics that nobody scrapes, for tests.
    pub fn unregistered() -> Self {
        Self {
            admissions: Family::default(),
            admission_duration: Histogram::new(DURATIONS),
            profiles: Gauge::default(),
            namespaces: Gauge::default(),
            watch_restarts: Family::default(),
            lookups: Family::default(),
            events: Family::default(),
            pods: Family::default(),
            audits: Counter::default(),
            audit_failures: Counter::default(),
            reloads: Family::default(),
            profile_statuses: Family::default(),
            finishes: Family::default(),
            leading: Gauge::default(),
            certificate_expiry: Gauge::default(),
            certificate_failures: Counter::default(),
            ca_bundle_patches: Counter::default(),
            connections: Gauge::default(),
            connections_evicted: Counter::default(),
            handshake_failures: Counter::default(),
        }
    }
}

#[cfg(test)]
#[path = "../../runtime/tests/support/asked_for.rs"]
mod asked_for;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_and_dashboards_ask_for_metrics_that_there_are() {
        let mut exposition = outrigger_runtime::metrics::Metrics::new("0.0.0");
        let metrics = Metrics::register(exposition.own());
        // Without a series it is not named.
        metrics.pods.get_or_create(&PodStanding { namespace: String::new(), standing: "missing" }).set(1);
        metrics.events.get_or_create(&EventResult { result: "published" }).inc();
        let ours = |name: &str| name.starts_with("outrigger_webhook_");
        asked_for::assert_exported(&exposition.encode().unwrap(), ours);
    }
}
