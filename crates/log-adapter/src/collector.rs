//! The adapter's metrics in Prometheus' words. Names and labels here are a contract; label values come from the config.

use std::fmt::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::metrics::{Metrics, SourceMetrics};

#[derive(Debug)]
pub(crate) struct LogsCollector(pub(crate) Arc<Metrics>);

/// Name, help and value.
type Series = (&'static str, &'static str, fn(&SourceMetrics) -> u64);

const COUNTERS: [Series; 8] = [
    ("log_lines", "Events written out", |source| source.lines.load(Relaxed)),
    ("log_read_bytes", "Bytes of log files written out", |source| source.bytes.load(Relaxed)),
    ("log_parse_errors", "Events that are not of their file's format", |source| {
        source.parse_errors.load(Relaxed)
    }),
    ("log_truncated", "Events cut at the longest line allowed", |source| source.truncated.load(Relaxed)),
    ("log_partial", "Events written out without their line's start or end", |source| {
        source.partial.load(Relaxed)
    }),
    ("log_invalid_utf8", "Events that are not UTF-8", |source| source.invalid_utf8.load(Relaxed)),
    ("log_rotations", "Files renamed, replaced or truncated", |source| source.rotations.load(Relaxed)),
    ("log_lost_bytes", "Bytes truncated or deleted before they were read", |source| {
        source.lost.load(Relaxed)
    }),
];

const GAUGES: [Series; 3] = [
    ("log_files", "Files open now", SourceMetrics::files),
    ("log_unreadable_files", "Files that can't be opened now", |source| source.unreadable.load(Relaxed)),
    ("log_lag_bytes", "Bytes in open files that are not written out yet", SourceMetrics::lag),
];

impl Collector for LogsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let sources = self.0.sources();
        let labels =
            |source: &SourceMetrics| [("container", source.container.clone()), ("path", source.path.clone())];
        for (name, help, value) in COUNTERS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for source in &sources {
                ConstCounter::new(value(source)).encode(family.encode_family(&labels(source))?)?;
            }
        }
        for (name, help, value) in GAUGES {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for source in &sources {
                ConstGauge::new(value(source)).encode(family.encode_family(&labels(source))?)?;
            }
        }
        let (name, help) = ("log_checkpoint_failures", "Checkpoints that could not be written");
        let failures = ConstCounter::new(self.0.checkpoint_failures.load(Relaxed));
        failures.encode(encoder.encode_descriptor(name, help, None, failures.metric_type())?)?;
        let (name, help) = (
            "config_last_reload_success",
            "1 if the document in the config's file is in force, 0 if it was refused",
        );
        let taken = ConstGauge::new(u64::from(!self.0.config_refused.load(Relaxed)));
        taken.encode(encoder.encode_descriptor(name, help, None, taken.metric_type())?)
    }
}
