//! The metrics in Prometheus' words. Names and labels here are a contract; but for the version, label values come from the config.

use std::fmt::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::status::{Entry, Statuses};

/// All entries, for whoever scrapes.
#[derive(Debug)]
pub(crate) struct SyncCollector {
    /// The entries.
    pub(crate) statuses: Statuses,
    /// Whether the config's file now holds one that can't be used.
    pub(crate) config_refused: Arc<AtomicBool>,
}

/// Name, help and value.
type Series = (&'static str, &'static str, fn(&Entry) -> u64);

const COUNTERS: [Series; 3] = [
    ("sync_polls", "Times the repository was asked", |entry| entry.polls),
    ("sync_switches", "Times another version was put in place", |entry| entry.switches),
    ("sync_rollbacks", "Times the version before was put back", |entry| entry.rollbacks),
];

const GAUGES: [Series; 4] = [
    ("sync_has_content", "1 if the app has something to start with", |entry| entry.has_content.into()),
    ("sync_failing", "1 if something is wrong now", |entry| entry.failure.is_some().into()),
    ("sync_bad_versions", "Versions that are not taken again", |entry| entry.bad.len() as u64),
    (
        "sync_last_answer_timestamp_seconds",
        "When the repository last answered, since the Unix epoch",
        |entry| seconds(entry.answered),
    ),
];

impl Collector for SyncCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let entries = self.statuses.all();
        let labels = |entry: &Entry| [("container", entry.container.clone()), ("path", entry.path.clone())];
        for (name, help, value) in COUNTERS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for entry in &entries {
                ConstCounter::new(value(entry)).encode(family.encode_family(&labels(entry))?)?;
            }
        }
        for (name, help, value) in GAUGES {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for entry in &entries {
                ConstGauge::new(value(entry)).encode(family.encode_family(&labels(entry))?)?;
            }
        }
        let help = "Rounds that brought nothing, by reason";
        let mut family = encoder.encode_descriptor("sync_failures", help, None, MetricType::Counter)?;
        for entry in &entries {
            for (reason, count) in &entry.failures {
                let [container, path] = labels(entry);
                let labels = [container, path, ("reason", reason.to_string())];
                ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
            }
        }
        // One series an entry: the version before goes when the next one comes.
        let help = "Since when this version is served, since the Unix epoch";
        let mut family =
            encoder.encode_descriptor("sync_version_timestamp_seconds", help, None, MetricType::Gauge)?;
        for entry in &entries {
            if let (Some(version), Some(commit)) = (&entry.version, &entry.commit) {
                let [container, path] = labels(entry);
                let labels = [container, path, ("version", version.clone()), ("commit", commit.clone())];
                ConstGauge::new(seconds(entry.since)).encode(family.encode_family(&labels)?)?;
            }
        }
        let (name, help) = (
            "config_last_reload_success",
            "1 if the document in the config's file is in force, 0 if it was refused",
        );
        let taken = ConstGauge::new(u64::from(!self.config_refused.load(Relaxed)));
        taken.encode(encoder.encode_descriptor(name, help, None, taken.metric_type())?)
    }
}

fn seconds(time: Option<Timestamp>) -> u64 {
    time.map_or(0, |time| u64::try_from(time.as_second()).unwrap_or(0))
}
