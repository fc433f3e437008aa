//! `/stats`: one snapshot of a proxy for the collector and the dashboard, as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::latency::{REQUEST, Snapshot};
use crate::metrics::{PortMetrics, Ports};
use crate::reason::Reason;
use crate::series::CLASSES;

/// Everything that the proxy knows about its traffic, since it started.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stats {
    /// Version of this document.
    version: u32,
    ports: Vec<PortStats>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PortStats {
    port: String,
    direction: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<HttpStats>,
    tcp: TcpStats,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct HttpStats {
    requests: u64,
    /// By status class, all five always there.
    code_classes: BTreeMap<&'static str, u64>,
    /// By reason, only those that occurred.
    errors: BTreeMap<&'static str, u64>,
    in_flight: u64,
    request_body_bytes: u64,
    response_body_bytes: u64,
    duration: DurationStats,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DurationStats {
    count: u64,
    sum_seconds: f64,
    /// Estimates, exact to a histogram bucket; absent without requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    p50_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p95_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p99_seconds: Option<f64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TcpStats {
    connections_opened: u64,
    connections_open: u64,
    /// By reason, only those that occurred.
    errors: BTreeMap<&'static str, u64>,
    read_bytes: u64,
    written_bytes: u64,
}

impl Stats {
    pub(crate) fn of(ports: &Ports) -> Self {
        Self { version: 1, ports: ports.all().iter().map(|port| port_stats(port)).collect() }
    }
}

fn port_stats(port: &PortMetrics) -> PortStats {
    PortStats {
        port: port.name.clone(),
        direction: "inbound",
        http: port.is_http().then(|| http_stats(port)),
        tcp: TcpStats {
            connections_opened: port.relayed.opened.get(),
            connections_open: port.relayed.open(),
            errors: tcp_errors(port),
            read_bytes: port.relayed.read.get(),
            written_bytes: port.relayed.written.get(),
        },
    }
}

fn tcp_errors(port: &PortMetrics) -> BTreeMap<&'static str, u64> {
    let occurred =
        port.relayed.closed.all().into_iter().filter(|(reason, count)| *reason != Reason::None && *count > 0);
    occurred.map(|(reason, count)| (reason.as_str(), count)).collect()
}

fn http_stats(port: &PortMetrics) -> HttpStats {
    let (mut errors, mut code_classes) = (BTreeMap::new(), BTreeMap::from(CLASSES.map(|class| (class, 0))));
    let mut all = Snapshot::empty(&REQUEST);
    for (key, durations) in port.requests.snapshot() {
        let count = durations.count();
        *code_classes.entry(CLASSES[key.class()]).or_default() += count;
        if key.reason != Reason::None && count > 0 {
            *errors.entry(key.reason.as_str()).or_default() += count;
        }
        all.add(&durations);
    }
    HttpStats {
        requests: all.count(),
        code_classes,
        errors,
        in_flight: port.active(),
        request_body_bytes: port.request_body_bytes.get(),
        response_body_bytes: port.response_body_bytes.get(),
        duration: DurationStats {
            count: all.count(),
            sum_seconds: all.sum_seconds,
            p50_seconds: all.quantile(0.5),
            p95_seconds: all.quantile(0.95),
            p99_seconds: all.quantile(0.99),
        },
    }
}
