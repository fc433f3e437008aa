//! A process's metrics, and how they are written.

use std::fmt;

use prometheus_client::encoding::text;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::process::ProcessCollector;

/// Prefix of every metric of our own.
pub const PREFIX: &str = "outrigger";

/// Content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of one process: `process_*`, `outrigger_build_info{version}` and what it registers itself.
///
/// Register everything first, then share it as an `Arc`: a scrape only reads.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// The metrics that every process has. `version` is the binary's.
    pub fn new(version: &'static str) -> Self {
        let mut metrics = Self { registry: Registry::default() };
        metrics.registry.register_collector(Box::new(ProcessCollector));
        // The encoder adds `_info`, as it adds `_total` to counters.
        metrics.own().register("build", "Version of the running binary", Info::new([("version", version)]));
        metrics
    }

    /// Where a binary registers its own: `requests` becomes `outrigger_requests_total`.
    pub fn own(&mut self) -> &mut Registry {
        self.registry.sub_registry_with_prefix(PREFIX)
    }

    /// Everything, as `OpenMetrics` text.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;

    #[test]
    fn own_metrics_have_the_prefix_and_the_process_has_its_usual_names() {
        let mut metrics = Metrics::new("1.2.3");
        let seen: Counter = Counter::default();
        metrics.own().register("things_seen", "Things", seen.clone());
        seen.inc();
        let text = metrics.encode().unwrap();
        for wanted in [
            "outrigger_things_seen_total 1\n",
            "outrigger_build_info{version=\"1.2.3\"} 1\n",
            "process_resident_memory_bytes ",
            "process_cpu_seconds_total ",
            "process_open_fds ",
            "process_start_time_seconds ",
            "# EOF",
        ] {
            assert!(text.contains(wanted), "{wanted} is not in:\n{text}");
        }
        assert_eq!(text.matches("process_open_fds ").count(), 3, "help, type and value, once each:\n{text}");
    }
}
