//! What is counted for each port. The worker writes, the admin thread reads.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use outrigger_api::circuit_breaker::CircuitMode;

use crate::auth::Decision;
use crate::breaker::{Cause, State};
use crate::counter::Counter;
use crate::failures::Failures;
use crate::grpc::Code;
use crate::http2::Ended;
use crate::identify::Detected;
use crate::labels::Labels;
use crate::latency::{Latency, OWN_TIME, REQUEST};
use crate::method::Method;
use crate::reason::Reason;
use crate::request::Version;
use crate::routes::AllRoutes;
use crate::series::{AllSeries, RequestKey};
use crate::tls::Handshake;

/// The counters of all ports, those too that a changed config has given up: a counter that vanishes takes with it what
/// was not scraped yet. One entry for all with equal labels: two equal series would make the whole scrape invalid. Clones
/// share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ports(Arc<Mutex<Vec<Arc<PortMetrics>>>>);

impl Ports {
    /// The counters of the port with these labels. `http`: whether it is known to speak it.
    pub(crate) fn of(&self, labels: &Labels, http: bool) -> Arc<PortMetrics> {
        let mut ports = self.lock();
        let known = ports.iter().find(|port| port.labels == *labels).map(Arc::clone);
        let port = known.unwrap_or_else(|| {
            let port = Arc::new(PortMetrics::new(labels.clone()));
            ports.push(Arc::clone(&port));
            port
        });
        if http {
            port.http.store(true, Relaxed);
            // So that a rate has a zero to start from, and a port that nobody calls is still seen.
            port.requests.of(RequestKey {
                version: Version::Http11,
                method: Method::Get,
                code: 200,
                reason: Reason::None,
            });
        }
        port
    }

    pub(crate) fn all(&self) -> Vec<Arc<PortMetrics>> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<PortMetrics>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The counters of one port.
#[derive(Debug)]
pub(crate) struct PortMetrics {
    pub(crate) labels: Labels,
    /// Whether the config says or said that HTTP is spoken on it. If not, and no request came, only connections and bytes are counted.
    http: AtomicBool,
    pub(crate) requests: AllSeries,
    pub(crate) routes: AllRoutes,
    pub(crate) failures: Failures,
    /// What of the requests' time was spent in the proxy.
    pub(crate) own_time: Latency,
    pub(crate) started: Counter,
    pub(crate) ended: Counter,
    /// Requests that wait for their turn now.
    pub(crate) pending: Counter,
    pub(crate) request_body_bytes: Counter,
    pub(crate) response_body_bytes: Counter,
    /// What clients spoke, by [`Detected`].
    pub(crate) detected: [Counter; Detected::ALL.len()],
    /// Clients' connections closed by us between two requests, because none came.
    pub(crate) idle_closed: Counter,
    /// Handshakes by TLS, by [`Handshake`].
    pub(crate) handshakes: [Counter; Handshake::ALL.len()],
    /// Answers of the app that were changed by their status.
    pub(crate) overridden: Counter,
    /// Requests that need a credential, by [`Decision`].
    pub(crate) auth: [Counter; Decision::ALL.len()],
    /// Circuit breakers.
    pub(crate) circuit: Circuits,
    /// Calls by gRPC that have ended.
    pub(crate) grpc: ByCode,
    /// Connections by HTTP/2.
    pub(crate) http2: Http2,
    /// Relayed connections.
    pub(crate) relayed: Relayed,
    /// Connections to the app.
    pub(crate) upstream: Upstream,
}

/// Counts of connections that are passed on as bytes.
#[derive(Debug, Default)]
pub(crate) struct Relayed {
    /// Also those that did not get as far as the app.
    pub(crate) opened: Counter,
    /// By [`Reason`].
    pub(crate) closed: ByReason,
    /// Bytes from the clients.
    pub(crate) read: Counter,
    /// Bytes to them.
    pub(crate) written: Counter,
}

/// Counts of circuit breakers: an upstream has one, or one for each of its addresses that calls were seen to.
#[derive(Debug, Default)]
pub(crate) struct Circuits {
    breakers: Counter,
    /// Those among them that only observe.
    observing: Counter,
    open: Counter,
    half_open: Counter,
    /// By [`Cause`].
    transitions: [Counter; Cause::ALL.len()],
    /// Requests that were kept from the upstream.
    pub(crate) rejected: Counter,
    /// Those that would have been.
    pub(crate) observed: Counter,
}

impl Circuits {
    /// A breaker comes.
    pub(crate) fn begun(&self, mode: CircuitMode) {
        self.breakers.add(1);
        self.observing.add(u64::from(mode == CircuitMode::Observe));
    }

    pub(crate) fn moved(&self, from: State, to: State, cause: Cause) {
        self.transitions[cause as usize].add(1);
        self.leave(from);
        match to {
            State::Open => self.open.add(1),
            State::HalfOpen => self.half_open.add(1),
            State::Closed => {}
        }
    }

    /// A breaker goes, with its upstream.
    pub(crate) fn gone(&self, mode: CircuitMode, state: State) {
        self.breakers.subtract(1);
        self.observing.subtract(u64::from(mode == CircuitMode::Observe));
        self.leave(state);
    }

    /// `observe` where they keep nothing from the upstream, else `enforce`.
    pub(crate) fn mode(&self) -> &'static str {
        if self.observing.get() > 0 { "observe" } else { "enforce" }
    }

    fn leave(&self, state: State) {
        match state {
            State::Open => self.open.subtract(1),
            State::HalfOpen => self.half_open.subtract(1),
            State::Closed => {}
        }
    }

    /// The worst of the breakers; `None` where there is none.
    pub(crate) fn state(&self) -> Option<State> {
        let worst = match (self.open.get(), self.half_open.get()) {
            (0, 0) => State::Closed,
            (0, _) => State::HalfOpen,
            (_, _) => State::Open,
        };
        (self.breakers.get() > 0).then_some(worst)
    }

    pub(crate) fn transitions(&self) -> [(Cause, u64); Cause::ALL.len()] {
        Cause::ALL.map(|cause| (cause, self.transitions[cause as usize].get()))
    }
}

/// Counts of clients' connections by HTTP/2.
#[derive(Debug, Default)]
pub(crate) struct Http2 {
    pub(crate) opened: Counter,
    /// By [`Ended`].
    closed: [Counter; Ended::ALL.len()],
}

/// A count for each status of gRPC.
#[derive(Debug, Default)]
pub(crate) struct ByCode([Counter; Code::COUNT]);

/// Counts of connections to the app.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// How long those took that were made.
    pub(crate) connects: Latency,
    /// Those that were not, by [`Reason`].
    pub(crate) failed: ByReason,
    pub(crate) closed: Counter,
    /// In the pool now.
    pub(crate) idle: Counter,
    /// Requests that took a connection from the pool.
    pub(crate) reused: Counter,
    /// Requests that were sent once more: with an answer of the app in the end, and without.
    pub(crate) retried: [Counter; 2],
    /// Requests that were not, because there were too many of them.
    pub(crate) unbudgeted: Counter,
}

/// A count for each reason.
#[derive(Debug, Default)]
pub(crate) struct ByReason([Counter; Reason::ALL.len()]);

impl PortMetrics {
    fn new(labels: Labels) -> Self {
        Self {
            labels,
            http: AtomicBool::default(),
            requests: AllSeries::default(),
            routes: AllRoutes::default(),
            failures: Failures::default(),
            own_time: Latency::new(&OWN_TIME),
            started: Counter::default(),
            ended: Counter::default(),
            pending: Counter::default(),
            request_body_bytes: Counter::default(),
            response_body_bytes: Counter::default(),
            detected: Default::default(),
            idle_closed: Counter::default(),
            handshakes: Default::default(),
            overridden: Counter::default(),
            auth: Default::default(),
            circuit: Circuits::default(),
            grpc: ByCode::default(),
            http2: Http2::default(),
            relayed: Relayed::default(),
            upstream: Upstream {
                connects: Latency::new(&REQUEST),
                failed: ByReason::default(),
                closed: Counter::default(),
                idle: Counter::default(),
                reused: Counter::default(),
                retried: Default::default(),
                unbudgeted: Counter::default(),
            },
        }
    }

    pub(crate) fn is_http(&self) -> bool {
        self.http.load(Relaxed) || self.started.get() > 0
    }

    /// Requests in flight.
    pub(crate) fn active(&self) -> u64 {
        // In this order, so that a request between the two reads can't make it negative.
        let ended = self.ended.get();
        self.started.get().saturating_sub(ended)
    }
}

impl Relayed {
    /// Connections that are open.
    pub(crate) fn open(&self) -> u64 {
        let closed = self.closed.all().iter().map(|(_, count)| count).sum();
        self.opened.get().saturating_sub(closed)
    }
}

impl Http2 {
    pub(crate) fn close(&self, ended: Ended) {
        self.closed[ended as usize].add(1);
    }

    pub(crate) fn closed(&self) -> [(Ended, u64); Ended::ALL.len()] {
        Ended::ALL.map(|ended| (ended, self.closed[ended as usize].get()))
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> u64 {
        let closed = self.closed().iter().map(|(_, count)| count).sum();
        self.opened.get().saturating_sub(closed)
    }
}

impl ByCode {
    pub(crate) fn add(&self, code: Code) {
        self.0[usize::from(code.number())].add(1);
    }

    pub(crate) fn all(&self) -> [(Code, u64); Code::COUNT] {
        Code::all().map(|code| (code, self.0[usize::from(code.number())].get()))
    }
}

impl Upstream {
    /// Connections that a request or a relay uses now.
    pub(crate) fn active(&self) -> u64 {
        let gone = self.closed.get() + self.idle.get();
        self.connects.count().saturating_sub(gone)
    }
}

impl ByReason {
    pub(crate) fn add(&self, reason: Reason) {
        self.0[reason as usize].add(1);
    }

    pub(crate) fn all(&self) -> [(Reason, u64); Reason::ALL.len()] {
        Reason::ALL.map(|reason| (reason, self.0[reason as usize].get()))
    }
}
