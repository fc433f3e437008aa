//! The proxy's metrics in Prometheus' words. Names and labels here are a contract.
//!
//! Label values come from the config (`port`) or from closed sets, never from a client: a path or a `Host` as a label
//! lets anybody fill the memory of Prometheus. No pod or namespace either: scraping adds those.

use std::fmt::Error;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::latency::{BOUNDS, Snapshot};
use crate::metrics::{CLASSES, Counter, PortMetrics, Ports};
use crate::reason::{OTHER, Reason};

/// The only direction so far. The label is there from the start, because a label that appears later breaks every query
/// that sums without it.
const DIRECTION: (&str, &str) = ("direction", "inbound");

#[derive(Debug)]
pub(crate) struct ProxyCollector(pub(crate) Ports);

impl Collector for ProxyCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        self.requests(&mut encoder)?;
        self.durations(&mut encoder)?;
        let (http, all) = (|port: &PortMetrics| port.is_http(), |_: &PortMetrics| true);
        let active = ("http_active_requests", "Requests in flight");
        self.gauge(&mut encoder, active, http, PortMetrics::active)?;
        let request_bytes = ("http_request_body_bytes", "Body bytes received from clients");
        self.counter(&mut encoder, request_bytes, http, |port| &port.request_body_bytes)?;
        let response_bytes = ("http_response_body_bytes", "Bytes of the bodies that the app answered with");
        self.counter(&mut encoder, response_bytes, http, |port| &port.response_body_bytes)?;
        let opened = ("tcp_connections_opened", "Connections relayed as bytes, opened");
        self.counter(&mut encoder, opened, all, |port| &port.opened)?;
        self.closed(&mut encoder)?;
        let open = ("tcp_open_connections", "Connections relayed as bytes, open now");
        self.gauge(&mut encoder, open, all, PortMetrics::open_connections)?;
        let read = ("tcp_read_bytes", "Bytes read from clients of relayed connections");
        self.counter(&mut encoder, read, all, |port| &port.read)?;
        let written = ("tcp_written_bytes", "Bytes written to clients of relayed connections");
        self.counter(&mut encoder, written, all, |port| &port.written)
    }
}

impl ProxyCollector {
    fn requests(&self, encoder: &mut DescriptorEncoder) -> Result<(), Error> {
        let help = "Requests whose answer has ended, by status and by the reason where it failed";
        let mut family = encoder.encode_descriptor("http_requests", help, None, MetricType::Counter)?;
        for port in &self.0.all() {
            for (key, count) in port.requests() {
                let code = match key.code {
                    0 => OTHER.to_owned(),
                    code => code.to_string(),
                };
                let labels = [
                    DIRECTION,
                    ("port", &port.name),
                    ("method", key.method.label()),
                    ("code", &code),
                    ("reason", key.reason.as_str()),
                ];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn closed(&self, encoder: &mut DescriptorEncoder) -> Result<(), Error> {
        let help = "Connections relayed as bytes, closed, by the reason where they did not end in order";
        let mut family =
            encoder.encode_descriptor("tcp_connections_closed", help, None, MetricType::Counter)?;
        for port in &self.0.all() {
            for (reason, count) in port.closed() {
                // The orderly end from the start, for a rate to begin with; the others where they occurred.
                if reason == Reason::None || count > 0 {
                    let labels = [DIRECTION, ("port", &port.name), ("reason", reason.as_str())];
                    ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }

    fn durations(&self, encoder: &mut DescriptorEncoder) -> Result<(), Error> {
        let name = "http_request_duration_seconds";
        let help = "Time from a request's head to the end of its answer, by status class";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for port in self.0.all().iter().filter(|port| port.is_http()) {
            for (class, latency) in CLASSES.iter().zip(port.latency()) {
                let labels = [DIRECTION, ("port", port.name.as_str()), ("code_class", *class)];
                let (count, buckets) = (latency.count(), bounded(&latency));
                let mut series = family.encode_family(&labels)?;
                series.encode_histogram::<NoLabelSet>(latency.sum_seconds, count, &buckets, None)?;
            }
        }
        Ok(())
    }

    fn counter(
        &self,
        encoder: &mut DescriptorEncoder,
        (name, help): (&str, &str),
        has_it: impl Fn(&PortMetrics) -> bool,
        value: impl Fn(&PortMetrics) -> &Counter,
    ) -> Result<(), Error> {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for port in self.0.all().iter().filter(|port| has_it(port)) {
            let labels = [DIRECTION, ("port", port.name.as_str())];
            ConstCounter::new(value(port).get()).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn gauge(
        &self,
        encoder: &mut DescriptorEncoder,
        (name, help): (&str, &str),
        has_it: impl Fn(&PortMetrics) -> bool,
        value: impl Fn(&PortMetrics) -> u64,
    ) -> Result<(), Error> {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for port in self.0.all().iter().filter(|port| has_it(port)) {
            let labels = [DIRECTION, ("port", port.name.as_str())];
            ConstGauge::new(value(port)).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn bounded(latency: &Snapshot) -> Vec<(f64, u64)> {
    let bounds = BOUNDS.iter().copied().chain([f64::INFINITY]);
    bounds.zip(latency.buckets).collect()
}
