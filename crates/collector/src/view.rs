//! What the API tells: the whole mesh, one service, one pod. Names are a contract; `openapi.json` describes them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::figures::{Figures, History, POINTS};
use crate::judge::{self, Finding, State, Usual, worst};
use crate::mesh::Mesh;
use crate::pod::Key;
use crate::stats::{Breaker, Failure, RouteName, Scope};
use crate::sync::Synced;
use crate::watched::{Usage, Watched};

/// Points of a small curve: five minutes.
const SMALL: usize = 60;
/// Endpoints told of a service.
const MOST_ENDPOINTS: usize = 500;

/// All services, and who calls whom.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MeshView {
    version: &'static str,
    pods: usize,
    pods_left_out: usize,
    services: Vec<ServiceSummary>,
    edges: Vec<Edge>,
}

/// A workload and its pods together.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServiceSummary {
    namespace: String,
    name: String,
    kind: String,
    state: State,
    findings: Vec<Finding>,
    pods: BTreeMap<&'static str, usize>,
    figures: FiguresView,
    history: Curves,
}

/// One service, with its pods and endpoints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServiceView {
    #[serde(flatten)]
    summary: ServiceSummary,
    pod_cards: Vec<PodCard>,
    endpoints: Vec<Endpoint>,
    edges: Vec<Edge>,
}

/// A pod beside its peers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodCard {
    namespace: String,
    name: String,
    state: State,
    findings: Vec<Finding>,
    figures: FiguresView,
    history: Curves,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<UsageView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<UsageView>,
    breakers: Vec<BreakerView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_lag_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sync: Option<Vec<Synced>>,
    ready: bool,
    restarts: u64,
}

/// All that is known of a pod.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodView {
    #[serde(flatten)]
    card: PodCard,
    service: String,
    kind: String,
    node: String,
    phase: String,
    profile: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_answer_seconds: Option<u64>,
    endpoints: Vec<Endpoint>,
    last_errors: Vec<Failure>,
    /// The sidecar config, without secrets.
    config: Box<RawValue>,
    /// What injection did.
    report: Box<RawValue>,
}

/// Of the last 10 to 15 s. Rates are a second, durations milliseconds.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FiguresView {
    rate: f64,
    error_rate: f64,
    error_share: f64,
    average: Option<f64>,
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
    bytes_in: f64,
    bytes_out: f64,
    connection_rate: f64,
    in_flight: u64,
    open_connections: u64,
}

/// A point each 5 s, the newest last; null where nobody answered, or nothing was asked.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Curves {
    rate: Vec<Option<f64>>,
    errors: Vec<Option<f64>>,
    p50: Vec<Option<f64>>,
    p95: Vec<Option<f64>>,
    p99: Vec<Option<f64>>,
}

/// A method and path, on all pods together.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Endpoint {
    port: String,
    method: String,
    path: String,
    state: State,
    /// Since the proxies started.
    hits: u64,
    /// Since the proxies started.
    errors: u64,
    /// Of the last minute or two, as all below.
    rate: f64,
    error_share: f64,
    average: Option<f64>,
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
    bytes_in: f64,
    bytes_out: f64,
}

/// Who calls whom.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Edge {
    from: Place,
    to: Place,
    state: State,
    figures: FiguresView,
    /// Pods whose circuit to it is not closed.
    circuits_open: usize,
}

/// A service of the mesh, or a host outside, which has no namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Place {
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    name: String,
}

/// A circuit breaker.
#[derive(Debug, Serialize)]
pub(crate) struct BreakerView {
    upstream: String,
    state: String,
    mode: &'static str,
}

/// CPU in cores, memory in bytes.
#[derive(Debug, Serialize)]
pub(crate) struct UsageView {
    used: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<f64>,
    of: Scope,
}

/// All services.
pub(crate) fn mesh(mesh: &Mesh, now: Instant) -> MeshView {
    let by_service = mesh.by_service();
    let mut services: Vec<_> =
        by_service.iter().map(|(key, pods)| summary(mesh, key, pods, SMALL, now)).collect();
    // Those that want to be looked at stand first, and else nothing jumps about.
    services.sort_by_key(|service| std::cmp::Reverse(service.state));
    MeshView {
        version: env!("CARGO_PKG_VERSION"),
        pods: mesh.pods().count(),
        pods_left_out: mesh.left_out,
        services,
        edges: edges(mesh, now, |_| true),
    }
}

/// One service; none if there is no such.
pub(crate) fn service(mesh: &Mesh, key: &Key, now: Instant) -> Option<ServiceView> {
    let pods = mesh.by_service().remove(key)?;
    let usual = usual(&pods, now);
    let mut pod_cards: Vec<_> = pods.iter().map(|pod| card(pod, usual, now)).collect();
    pod_cards.sort_by_key(|card| std::cmp::Reverse(card.state));
    let place = place(key);
    let endpoints = endpoints(pods.iter().copied(), now);
    let summary = summary(mesh, key, &pods, POINTS, now);
    let edges = edges(mesh, now, |edge| edge.from == place || edge.to == place);
    Some(ServiceView { summary, pod_cards, endpoints, edges })
}

/// One pod; none if there is no such.
pub(crate) fn pod(mesh: &Mesh, key: &Key, now: Instant) -> Option<PodView> {
    let watched = mesh.pod(key)?;
    let pods = mesh.by_service().remove(&watched.pod.service())?;
    let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap_or_default();
    let pod = &watched.pod;
    let mut card = card(watched, usual(&pods, now), now);
    card.history = curves(&watched.history, POINTS);
    Some(PodView {
        card,
        service: pod.workload.clone(),
        kind: pod.kind.clone(),
        node: pod.node.clone(),
        phase: pod.phase.clone(),
        profile: pod.profile.clone(),
        address: pod.address,
        last_answer_seconds: watched.last_answer(now).map(|ago| ago.as_secs()),
        endpoints: endpoints(std::iter::once(watched), now),
        last_errors: watched.stats().map(|stats| stats.failures.clone()).unwrap_or_default(),
        config: raw(&pod.config),
        report: raw(&pod.report),
    })
}

fn summary(mesh: &Mesh, key: &Key, pods: &[&Watched], points: usize, now: Instant) -> ServiceSummary {
    let mut figures = Figures::default();
    let (mut in_flight, mut open) = (0_u64, 0_u64);
    let usual = usual(pods, now);
    let mut states = BTreeMap::new();
    let mut findings = Vec::new();
    for pod in pods {
        if let Some(own) = pod.figures(now) {
            figures = figures.and(&own);
            let now = pod.stats();
            in_flight = in_flight.saturating_add(now.map_or(0, |stats| stats.in_flight));
            open = open.saturating_add(now.map_or(0, |stats| stats.open));
        }
        let own = pod.findings(now, usual);
        *states.entry(name(worst(&own))).or_default() += 1;
        // What was deleted on purpose is no finding of its service.
        let told = own.into_iter().filter(|_| !pod.is_deleted());
        findings.extend(
            told.map(|finding| Finding {
                text: format!("{}: {}", pod.pod.key.name, finding.text),
                ..finding
            }),
        );
    }
    findings.extend(judge::traffic(&figures, None));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.state));
    findings.truncate(20);
    ServiceSummary {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        kind: pods.first().map(|pod| pod.pod.kind.clone()).unwrap_or_default(),
        state: worst(&findings),
        findings,
        pods: states,
        figures: figures_view(&figures, in_flight, open),
        history: mesh.history(key).map(|history| curves(history, points)).unwrap_or_default(),
    }
}

fn usual(pods: &[&Watched], now: Instant) -> Option<Usual> {
    let figures: Vec<_> = pods.iter().filter_map(|pod| pod.figures(now)).collect();
    Usual::of(figures.iter())
}

fn card(watched: &Watched, usual: Option<Usual>, now: Instant) -> PodCard {
    let findings = watched.findings(now, usual);
    let figures = watched.figures(now).unwrap_or_default();
    let telling = watched.stats().filter(|_| !watched.is_silent(now));
    let (in_flight, open) = telling.map_or((0, 0), |stats| (stats.in_flight, stats.open));
    let breakers = watched.outbound().filter_map(|(upstream, _, breaker)| {
        let Breaker { state, observes } = breaker?;
        let mode = if *observes { "observe" } else { "enforce" };
        Some(BreakerView { upstream: upstream.to_owned(), state: state.to_string(), mode })
    });
    PodCard {
        namespace: watched.pod.key.namespace.clone(),
        name: watched.pod.key.name.clone(),
        state: worst(&findings),
        findings,
        figures: figures_view(&figures, in_flight, open),
        history: curves(&watched.history, SMALL),
        cpu: watched.cpu().map(usage),
        memory: watched.memory().map(usage),
        breakers: breakers.collect(),
        log_lag_bytes: watched.log_lag,
        sync: watched.synced.clone(),
        ready: watched.pod.ready,
        restarts: watched.pod.restarts,
    }
}

fn endpoints<'a>(pods: impl Iterator<Item = &'a Watched>, now: Instant) -> Vec<Endpoint> {
    let mut all = BTreeMap::<_, (u64, u64, Figures)>::new();
    for pod in pods {
        for (route, figures) in pod.routes(now) {
            let known = all.entry(&*route.name).or_default();
            known.0 = known.0.saturating_add(route.totals.requests);
            known.1 = known.1.saturating_add(route.totals.errors);
            known.2 = known.2.and(&figures);
        }
    }
    let endpoint = |(name, (hits, errors, figures)): (&RouteName, (_, _, Figures))| {
        let FiguresView { rate, error_share, average, p50, p95, p99, bytes_in, bytes_out, .. } =
            figures_view(&figures, 0, 0);
        let state = worst(&judge::traffic(&figures, None));
        Endpoint {
            port: name.port.to_string(),
            method: name.method.to_string(),
            path: name.path.to_string(),
            state,
            hits,
            errors,
            rate,
            error_share,
            average,
            p50,
            p95,
            p99,
            bytes_in,
            bytes_out,
        }
    };
    let mut endpoints: Vec<_> = all.into_iter().map(endpoint).collect();
    if endpoints.len() > MOST_ENDPOINTS {
        endpoints.sort_by_key(|endpoint| std::cmp::Reverse(endpoint.hits));
        endpoints.truncate(MOST_ENDPOINTS);
    }
    endpoints
}

fn edges(mesh: &Mesh, now: Instant, wanted: impl Fn(&Edge) -> bool) -> Vec<Edge> {
    let services: BTreeSet<_> = mesh.pods().map(|pod| pod.pod.service()).collect();
    let mut all = BTreeMap::<(Place, Place), (Figures, usize)>::new();
    for pod in mesh.pods().filter(|pod| !pod.is_deleted() && !pod.is_silent(now)) {
        for (upstream, figures, breaker) in pod.outbound() {
            let known = all.entry((place(&pod.pod.service()), target(&services, pod, upstream))).or_default();
            known.0 = known.0.and(&figures);
            known.1 += usize::from(breaker.is_some_and(Breaker::is_open));
        }
    }
    let edge = |((from, to), (figures, circuits_open)): (_, (Figures, usize))| {
        let state = worst(&judge::traffic(&figures, None)).max(if circuits_open > 0 {
            State::Elevated
        } else {
            State::Good
        });
        Edge { from, to, state, figures: figures_view(&figures, 0, 0), circuits_open }
    };
    all.into_iter().map(edge).filter(wanted).collect()
}

/// The service behind an upstream: `api.shop.svc` is `api` of `shop` where there is such a workload, as Services are mostly
/// called like what stands behind them. An address has no name, so there the upstream's own is taken. Else the host itself.
fn target(services: &BTreeSet<Key>, pod: &Watched, upstream: &str) -> Place {
    let host = pod.pod.upstreams.iter().find(|(name, _)| name == upstream).map(|(_, host)| host.as_str());
    let host = host.unwrap_or(upstream);
    let named = if host.parse::<IpAddr>().is_ok() { upstream } else { host };
    let mut labels = named.split('.');
    let name = labels.next().unwrap_or_default().to_owned();
    let namespace = labels.next().unwrap_or(&pod.pod.key.namespace).to_owned();
    let key = Key { namespace, name };
    if services.contains(&key) {
        return place(&key);
    }
    Place { namespace: None, name: host.to_owned() }
}

fn place(key: &Key) -> Place {
    Place { namespace: Some(key.namespace.clone()), name: key.name.clone() }
}

fn figures_view(figures: &Figures, in_flight: u64, open_connections: u64) -> FiguresView {
    let quantile = |at| figures.durations.quantile(at).map(rounded);
    FiguresView {
        rate: rounded(figures.rate),
        error_rate: rounded(figures.error_rate),
        error_share: (figures.error_share() * 1e4).round() / 1e4,
        average: figures.average().map(rounded),
        p50: quantile(0.5),
        p95: quantile(0.95),
        p99: quantile(0.99),
        bytes_in: figures.bytes_in.round(),
        bytes_out: figures.bytes_out.round(),
        connection_rate: rounded(figures.connection_rate),
        in_flight,
        open_connections,
    }
}

fn curves(history: &History, points: usize) -> Curves {
    let curve = |value: fn(&crate::figures::Point) -> f32| {
        let shown = |value: f32| value.is_finite().then(|| rounded(f64::from(value)));
        history.last(points).map(|point| shown(value(&point))).collect()
    };
    Curves {
        rate: curve(|point| point.rate),
        errors: curve(|point| point.errors),
        p50: curve(|point| point.p50),
        p95: curve(|point| point.p95),
        p99: curve(|point| point.p99),
    }
}

fn usage(usage: Usage) -> UsageView {
    UsageView { used: usage.used, limit: usage.limit, of: usage.of }
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// As the JSON has it.
fn name(state: State) -> &'static str {
    match state {
        State::Good => "good",
        State::Waiting => "waiting",
        State::Elevated => "elevated",
        State::Slow => "slow",
        State::Failing => "failing",
        State::Gone => "gone",
    }
}

/// For answers that are no view.
pub(crate) fn problem(text: &str) -> Value {
    serde_json::json!({ "error": text })
}
