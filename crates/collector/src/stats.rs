//! A sidecar's `/stats`, as far as it is read here.
//!
//! A document may come from anybody who got hold of a pod: what is missing counts as nothing, what is not known is skipped,
//! and no more is kept of it than a proxy of ours would tell.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;

use crate::histogram::Histogram;

/// Routes kept of a pod: what the proxy has of one port, and some.
const MOST_ROUTES: usize = 200;
/// Buckets kept of a pod's routes together; 15 for each of 200 routes.
const MOST_BUCKETS: usize = 3000;
/// Ports kept of a pod.
const MOST_PORTS: usize = 64;
/// The last errors kept of a pod.
const MOST_ERRORS: usize = 50;
/// Bytes kept of a text. The proxy's paths have at most 200.
const LONGEST: usize = 256;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Document {
    ports: Vec<PortDocument>,
    last_errors: Vec<Failure>,
    resources: Resources,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PortDocument {
    port: String,
    direction: String,
    upstream: Option<String>,
    http: Option<HttpDocument>,
    tcp: TcpDocument,
    breaker: Option<BreakerDocument>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BreakerDocument {
    state: String,
    mode: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct HttpDocument {
    requests: u64,
    code_classes: BTreeMap<String, u64>,
    in_flight: u64,
    request_body_bytes: u64,
    response_body_bytes: u64,
    duration: DurationDocument,
    routes: Vec<RouteDocument>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DurationDocument {
    sum_seconds: f64,
    buckets: Vec<(u64, u64)>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RouteDocument {
    method: String,
    path: String,
    requests: u64,
    codes: BTreeMap<String, u64>,
    request_body_bytes: u64,
    response_body_bytes: u64,
    duration: DurationDocument,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct TcpDocument {
    connections_opened: u64,
    connections_open: u64,
    read_bytes: u64,
    written_bytes: u64,
}

/// A request that failed.
#[derive(Clone, Debug, Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Failure {
    /// When it ended.
    pub(crate) time: Timestamp,
    /// The port it came to.
    pub(crate) port: String,
    /// Its method.
    pub(crate) method: String,
    /// Its path, as routes have it.
    pub(crate) path: String,
    /// The status that its client saw.
    pub(crate) status: u16,
    /// Why, where the app did not answer.
    #[serde(default)]
    pub(crate) reason: String,
}

/// CPU and memory, as the pod's cgroup tells.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Resources {
    /// Absent where it can't be told.
    pub(crate) cpu: Option<Cpu>,
    /// Absent where it can't be told.
    pub(crate) memory: Option<Memory>,
}

/// CPU time.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Cpu {
    /// `pod` or `container`: whose it is.
    pub(crate) of: Scope,
    /// Since the start.
    pub(crate) usage_seconds: f64,
    /// Absent without a limit.
    pub(crate) limit_cores: Option<f64>,
}

/// Memory.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Memory {
    /// `pod` or `container`: whose it is.
    pub(crate) of: Scope,
    /// Without file pages that can go at any time.
    pub(crate) working_set_bytes: u64,
    /// Absent without a limit.
    pub(crate) limit_bytes: Option<u64>,
}

/// Whose CPU and memory they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Scope {
    /// The whole pod's.
    Pod,
    /// The proxy's own container's.
    Container,
}

/// What is counted of a port, of a route or of many together, since their proxies started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    /// Requests whose answer has ended.
    pub(crate) requests: u64,
    /// Those that were answered with 500 or above, by the app or by the proxy for it.
    pub(crate) errors: u64,
    /// Bytes of requests' bodies, and what clients of TCP ports sent.
    pub(crate) bytes_in: u64,
    /// Bytes of answers' bodies, and what clients of TCP ports got.
    pub(crate) bytes_out: u64,
    /// Connections of TCP ports.
    pub(crate) connections: u64,
    /// How long the requests took together.
    pub(crate) seconds: f64,
    /// How long each took.
    pub(crate) durations: Histogram,
}

/// What is counted of a method and path.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// Which.
    pub(crate) name: Arc<RouteName>,
    /// Its counts.
    pub(crate) totals: Totals,
}

/// A method and path of a port.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RouteName {
    /// The port it came to.
    pub(crate) port: Box<str>,
    /// `{id}` for what differs.
    pub(crate) path: Box<str>,
    /// Its method.
    pub(crate) method: Box<str>,
}

/// An upstream that the app calls through the proxy.
#[derive(Clone, Debug)]
pub(crate) struct Outbound {
    /// As the profile calls it.
    pub(crate) upstream: Box<str>,
    /// What was asked of it.
    pub(crate) totals: Totals,
    /// Its circuit breaker, where it has one.
    pub(crate) breaker: Option<Breaker>,
}

/// A circuit breaker.
#[derive(Clone, Debug)]
pub(crate) struct Breaker {
    /// `closed`, `open` or `half-open`; whatever a pod says.
    pub(crate) state: Box<str>,
    /// Whether it keeps nothing from the upstream.
    pub(crate) observes: bool,
}

impl Breaker {
    /// Whether calls are kept from the upstream.
    pub(crate) fn is_open(&self) -> bool {
        &*self.state != "closed" && !self.observes
    }
}

/// One snapshot of a proxy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stats {
    /// What came to the pod.
    pub(crate) inbound: Totals,
    /// Requests that the app has not answered yet.
    pub(crate) in_flight: u64,
    /// Connections open on TCP ports.
    pub(crate) open: u64,
    /// Whom the app called.
    pub(crate) outbound: Vec<Outbound>,
    /// What came, by route.
    pub(crate) routes: Vec<Route>,
    /// Whether there were more.
    pub(crate) has_more_routes: bool,
    /// The newest first.
    pub(crate) failures: Vec<Failure>,
    /// CPU and memory.
    pub(crate) resources: Resources,
}

impl Stats {
    /// Reads a document.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        let document: Document = serde_json::from_slice(text)?;
        let mut stats = Self { resources: document.resources, ..Self::default() };
        for port in document.ports.into_iter().take(MOST_PORTS) {
            stats.add(port);
        }
        stats.failures = document.last_errors.into_iter().take(MOST_ERRORS).map(shortened).collect();
        stats.keep_the_busiest();
        Ok(stats)
    }

    /// Takes the names of an earlier answer of the same pod, so that they stand in memory once.
    pub(crate) fn share_names(&mut self, earlier: &Self) {
        for (place, route) in self.routes.iter_mut().enumerate() {
            // They mostly stand where they stood.
            let mut likely = earlier.routes.get(place).into_iter().chain(&earlier.routes);
            if let Some(known) = likely.find(|known| known.name == route.name) {
                route.name = Arc::clone(&known.name);
            }
        }
    }

    /// Whether this can't have come after `earlier`: the counts have begun anew, of what comes or, in a pod that only calls, of what
    /// goes. An upstream that is told no more says nothing: the profile may have changed.
    pub(crate) fn is_of_another_process(&self, earlier: &Self) -> bool {
        let counted = |totals: &Totals| totals.requests.saturating_add(totals.connections);
        let pairs = earlier.outbound.iter().filter_map(|known| {
            let same = self.outbound.iter().find(|outbound| outbound.upstream == known.upstream)?;
            Some((&same.totals, &known.totals))
        });
        let mut pairs = pairs.chain([(&self.inbound, &earlier.inbound)]);
        pairs.any(|(now, before)| counted(now) < counted(before))
    }

    /// What figures of the whole pod are made of: a tenth of the memory, where several are kept of each pod.
    pub(crate) fn without_routes(&self) -> Self {
        Self {
            inbound: self.inbound.clone(),
            outbound: self.outbound.clone(),
            resources: self.resources.clone(),
            ..Self::default()
        }
    }

    fn add(&mut self, port: PortDocument) {
        let http = port.http.unwrap_or_default();
        let totals = Totals {
            requests: http.requests,
            errors: http.code_classes.get("5xx").copied().unwrap_or(0),
            bytes_in: http.request_body_bytes.saturating_add(port.tcp.read_bytes),
            bytes_out: http.response_body_bytes.saturating_add(port.tcp.written_bytes),
            connections: port.tcp.connections_opened,
            seconds: positive(http.duration.sum_seconds),
            durations: Histogram::of(&http.duration.buckets),
        };
        if port.direction == "outbound" {
            let breaker = port
                .breaker
                .map(|breaker| Breaker { state: short(&breaker.state), observes: breaker.mode == "observe" });
            self.call(short(port.upstream.as_ref().unwrap_or(&port.port)), totals, breaker);
            return;
        }
        self.inbound = self.inbound.and(&totals);
        self.in_flight = self.in_flight.saturating_add(http.in_flight);
        self.open = self.open.saturating_add(port.tcp.connections_open);
        let name = short(&port.port);
        self.routes.extend(http.routes.iter().map(|route| Route {
            name: Arc::new(RouteName {
                port: name.clone(),
                path: short(&route.path),
                method: short(&route.method),
            }),
            totals: route.totals(),
        }));
    }

    /// One for each upstream: all that is no upstream of the profile has one name for many ports.
    fn call(&mut self, upstream: Box<str>, totals: Totals, breaker: Option<Breaker>) {
        match self.outbound.iter_mut().find(|known| known.upstream == upstream) {
            Some(known) => {
                known.totals = known.totals.and(&totals);
                known.breaker = known.breaker.take().or(breaker);
            }
            None => self.outbound.push(Outbound { upstream, totals, breaker }),
        }
    }

    /// Of a document with more routes than a proxy's, those with most requests; and durations as long as there is room.
    fn keep_the_busiest(&mut self) {
        self.routes.sort_by_key(|route| std::cmp::Reverse(route.totals.requests));
        self.has_more_routes = self.routes.len() > MOST_ROUTES;
        self.routes.truncate(MOST_ROUTES);
        let mut buckets = 0;
        for route in &mut self.routes {
            buckets += route.totals.durations.buckets();
            if buckets > MOST_BUCKETS {
                route.totals.durations = Histogram::default();
            }
        }
    }
}

impl RouteDocument {
    fn totals(&self) -> Totals {
        let failed = |code: &str| code.parse::<u16>().is_ok_and(|code| code >= 500);
        let errors = self.codes.iter().filter(|(code, _)| failed(code)).map(|(_, count)| *count);
        Totals {
            requests: self.requests,
            errors: errors.fold(0, u64::saturating_add),
            bytes_in: self.request_body_bytes,
            bytes_out: self.response_body_bytes,
            connections: 0,
            seconds: positive(self.duration.sum_seconds),
            durations: Histogram::of(&self.duration.buckets),
        }
    }
}

impl Totals {
    /// Both together.
    #[must_use]
    pub(crate) fn and(&self, other: &Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            errors: self.errors.saturating_add(other.errors),
            bytes_in: self.bytes_in.saturating_add(other.bytes_in),
            bytes_out: self.bytes_out.saturating_add(other.bytes_out),
            connections: self.connections.saturating_add(other.connections),
            seconds: self.seconds + other.seconds,
            durations: self.durations.and(&other.durations),
        }
    }

    /// What came since `before`.
    #[must_use]
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(before.requests),
            errors: self.errors.saturating_sub(before.errors),
            bytes_in: self.bytes_in.saturating_sub(before.bytes_in),
            bytes_out: self.bytes_out.saturating_sub(before.bytes_out),
            connections: self.connections.saturating_sub(before.connections),
            seconds: (self.seconds - before.seconds).max(0.0),
            durations: self.durations.since(&before.durations),
        }
    }
}

/// No sum of times is negative or no number.
fn positive(seconds: f64) -> f64 {
    if seconds.is_finite() { seconds.max(0.0) } else { 0.0 }
}

fn short(text: &str) -> Box<str> {
    let end = (0..=LONGEST.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text[..end].into()
}

fn shortened(mut failure: Failure) -> Failure {
    let Failure { port, method, path, reason, .. } = &mut failure;
    [port, method, path, reason].into_iter().for_each(shorten);
    failure
}

/// Keeps as much of a text as of all that pods say.
pub(crate) fn shorten(text: &mut String) {
    if text.len() > LONGEST {
        *text = short(text).into();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_proxys_document_is_read() {
        let route = json!({"method": "GET", "path": "/carts/{id}", "requests": 5, "codes": {"200": 3, "503": 2},
            "errors": 2, "requestBodyBytes": 1, "responseBodyBytes": 9,
            "duration": {"count": 5, "sumSeconds": 0.5, "maxSeconds": 0.2, "buckets": [[106_496, 5]]}});
        let http = json!({"requests": 5, "codeClasses": {"2xx": 3, "5xx": 2}, "errors": {}, "inFlight": 1,
            "requestBodyBytes": 1, "responseBodyBytes": 9, "duration": route["duration"], "routes": [route]});
        let tcp = json!({"connectionsOpened": 2, "connectionsOpen": 1, "readBytes": 7, "writtenBytes": 8});
        let document = json!({"version": 1, "time": "2026-01-01T00:00:00Z", "ports": [
            {"port": "http", "direction": "inbound", "http": http, "tcp": tcp},
            {"port": "80", "direction": "outbound", "upstream": "api", "http": http, "tcp": tcp, "breaker": {"state": "open"}},
        ], "lastErrors": [], "resources": {"memory": {"of": "pod", "usageBytes": 9, "workingSetBytes": 8, "limitBytes": 64}}});
        let stats = Stats::parse(document.to_string().as_bytes()).unwrap();
        assert_eq!((stats.inbound.requests, stats.inbound.errors, stats.in_flight), (5, 2, 1));
        assert_eq!((stats.inbound.bytes_in, stats.inbound.bytes_out, stats.open), (8, 17, 1));
        assert_eq!((stats.routes.len(), stats.routes[0].totals.errors), (1, 2));
        assert_eq!(&*stats.outbound[0].upstream, "api");
        assert!(stats.outbound[0].breaker.as_ref().is_some_and(Breaker::is_open));
        assert_eq!(stats.resources.memory.unwrap().limit_bytes, Some(64));
    }

    /// Once, only what came was looked at: a pod that calls others and serves nobody showed no calls for 15 s after a restart.
    #[test]
    fn counts_that_begin_anew_are_of_another_process() {
        let stats = |inbound: u64, calls: &[(&str, u64)]| {
            let calls = calls.iter().map(|(upstream, requests)| {
                json!({"direction": "outbound", "upstream": upstream, "http": {"requests": requests}})
            });
            let inbound = json!({"direction": "inbound", "http": {"requests": inbound}});
            let ports: Vec<_> = calls.chain([inbound]).collect();
            Stats::parse(json!({"ports": ports}).to_string().as_bytes()).unwrap()
        };
        let before = stats(7, &[("api", 5), ("_other", 3), ("_other", 9)]);
        assert_eq!(before.outbound.len(), 2, "what is no upstream is one, whatever its ports");
        for same in [stats(7, &[("api", 5)]), stats(8, &[("_other", 2), ("_other", 10), ("db", 1)])] {
            assert!(!same.is_of_another_process(&before), "{same:?}");
        }
        for another in [stats(6, &[("api", 5)]), stats(7, &[("api", 4), ("_other", 99)])] {
            assert!(another.is_of_another_process(&before), "{another:?}");
        }
    }

    #[test]
    fn of_a_lying_document_no_more_is_kept_than_of_a_proxys() {
        let buckets: Vec<_> = (0..300).map(|number| (number * 7919, u64::MAX)).collect();
        let route = |number: usize| {
            json!({"method": "GET", "path": format!("/{}{number}", "é".repeat(4000)), "requests": u64::MAX,
                "codes": {"500": u64::MAX, "501": u64::MAX}, "duration": {"sumSeconds": -1e308, "buckets": buckets}})
        };
        let routes: Vec<_> = (0..300).map(route).collect();
        let port = json!({"port": "http", "http": {"requests": u64::MAX, "codeClasses": {"5xx": u64::MAX}, "routes": routes}});
        let ports = vec![port; 3];
        let stats = Stats::parse(json!({"ports": ports}).to_string().as_bytes()).unwrap();
        assert_eq!(stats.routes.len(), MOST_ROUTES);
        assert!(
            stats.routes.iter().map(|route| route.totals.durations.buckets()).sum::<usize>() <= MOST_BUCKETS
        );
        assert!(
            stats.routes.iter().all(|route| route.name.path.len() <= LONGEST && route.totals.seconds >= 0.0)
        );
    }
}
