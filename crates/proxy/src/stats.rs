//! `/stats`: one snapshot of a proxy for the collector and the dashboard, as JSON.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::breaker::State;
use crate::cgroup::ResourceStats;
use crate::failures::Failure;
use crate::labels::Labels;
use crate::metrics::{ByReason, Circuits, PortMetrics, Ports};
use crate::reason::{OTHER, Reason};
use crate::routes::{Counted, DurationStats, Route};
use crate::series::CLASSES;

/// Everything that the proxy knows about its traffic, since it started.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stats {
    /// Version of this document.
    version: u32,
    /// When it was made: counts of two of them make a rate.
    time: Timestamp,
    ports: Vec<PortStats>,
    /// The last requests that failed, the newest first.
    last_errors: Vec<ErrorStats>,
    /// From the cgroup.
    resources: ResourceStats,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PortStats {
    port: String,
    direction: &'static str,
    /// Of outbound traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<HttpStats>,
    tcp: TcpStats,
    /// Of an upstream that has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    breaker: Option<BreakerStats>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct BreakerStats {
    /// The worst of an upstream's addresses: `closed`, `open` or `half-open`.
    state: &'static str,
    /// `enforce`, or `observe`: it keeps nothing from the upstream.
    mode: &'static str,
    /// How often it opened.
    opened: u64,
    /// Requests that were kept from the upstream.
    rejected: u64,
    /// Those that would have been, where it only observes.
    would_reject: u64,
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
    routes: Vec<RouteStats>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RouteStats {
    method: &'static str,
    /// With `{id}` for what differs from request to request; `_OTHER` is for those without a route of their own.
    path: String,
    requests: u64,
    /// By status, only those that occurred.
    codes: BTreeMap<String, u64>,
    /// Requests that failed: with a reason, or a status of 500 and above.
    errors: u64,
    request_body_bytes: u64,
    response_body_bytes: u64,
    duration: DurationStats,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorStats {
    time: Timestamp,
    port: String,
    direction: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<String>,
    method: &'static str,
    path: String,
    status: u16,
    /// Empty where the app answered.
    reason: &'static str,
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
        let ports = ports.all();
        let mut last_errors: Vec<_> = ports
            .iter()
            .flat_map(|port| {
                port.failures.all().into_iter().map(|failure| error_stats(&port.labels, &failure))
            })
            .collect();
        last_errors.sort_by_key(|error| std::cmp::Reverse(error.time));
        Self {
            version: 1,
            time: Timestamp::now(),
            ports: ports.iter().map(|port| port_stats(port)).collect(),
            last_errors,
            resources: ResourceStats::now(),
        }
    }
}

fn error_stats(labels: &Labels, failure: &Failure) -> ErrorStats {
    ErrorStats {
        time: failure.at,
        port: labels.port.clone(),
        direction: labels.direction.as_str(),
        upstream: labels.upstream.clone(),
        method: failure.route.method.label(),
        path: failure.route.path.to_string(),
        status: failure.code,
        reason: failure.reason.as_str(),
    }
}

fn port_stats(port: &PortMetrics) -> PortStats {
    PortStats {
        port: port.labels.port.clone(),
        direction: port.labels.direction.as_str(),
        upstream: port.labels.upstream.clone(),
        http: port.is_http().then(|| http_stats(port)),
        tcp: TcpStats {
            connections_opened: port.relayed.opened.get(),
            connections_open: port.relayed.open(),
            errors: tcp_errors(&port.relayed.closed),
            read_bytes: port.relayed.read.get(),
            written_bytes: port.relayed.written.get(),
        },
        breaker: breaker_stats(&port.circuit),
    }
}

fn breaker_stats(circuit: &Circuits) -> Option<BreakerStats> {
    let state = match circuit.state()? {
        State::Closed => "closed",
        State::Open => "open",
        State::HalfOpen => "half-open",
    };
    let opened = circuit.transitions().into_iter().filter(|(cause, _)| cause.leads_to() == "open");
    Some(BreakerStats {
        state,
        mode: circuit.mode(),
        opened: opened.map(|(_, count)| count).sum(),
        rejected: circuit.rejected.get(),
        would_reject: circuit.observed.get(),
    })
}

fn tcp_errors(closed: &ByReason) -> BTreeMap<&'static str, u64> {
    let occurred = closed.all().into_iter().filter(|(reason, count)| *reason != Reason::None && *count > 0);
    occurred.map(|(reason, count)| (reason.as_str(), count)).collect()
}

fn http_stats(port: &PortMetrics) -> HttpStats {
    let (mut errors, mut code_classes) = (BTreeMap::new(), BTreeMap::from(CLASSES.map(|class| (class, 0))));
    let mut requests = 0;
    for (key, durations) in port.requests.snapshot() {
        let count = durations.count();
        requests += count;
        *code_classes.entry(CLASSES[key.class()]).or_default() += count;
        if key.reason != Reason::None && count > 0 {
            *errors.entry(key.reason.as_str()).or_default() += count;
        }
    }
    let mut all = Counted::default();
    let mut routes = Vec::new();
    for route in port.routes.all() {
        let durations = route.durations.snapshot();
        all.add(&durations);
        if durations.count() > 0 {
            routes.push(route_stats(&route, &durations));
        }
    }
    HttpStats {
        requests,
        code_classes,
        errors,
        in_flight: port.active(),
        request_body_bytes: port.request_body_bytes.get(),
        response_body_bytes: port.response_body_bytes.get(),
        duration: all.stats(),
        routes,
    }
}

fn route_stats(route: &Route, durations: &Counted) -> RouteStats {
    let requests = durations.count();
    let mut codes: BTreeMap<_, _> = route.codes().map(|(code, count)| (code.to_string(), count)).collect();
    let beyond = requests.saturating_sub(codes.values().sum());
    if beyond > 0 {
        codes.insert(OTHER.to_owned(), beyond);
    }
    RouteStats {
        method: route.method.label(),
        path: route.path.to_string(),
        requests,
        codes,
        errors: route.failed.get(),
        request_body_bytes: route.request_body_bytes.get(),
        response_body_bytes: route.response_body_bytes.get(),
        duration: durations.stats(),
    }
}
