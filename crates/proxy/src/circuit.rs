//! The circuit breaker of an upstream: asked before a request, told how it ended.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, StatusCode};
use outrigger_api::circuit_breaker::{CircuitBreakerSpec, CircuitMode};
use outrigger_api::config::Upstream;

use crate::answer::OwnAnswer;
use crate::breaker::{Breaker, Outcome, Permit, Settings, State};
use crate::chance::Chance;
use crate::grpc::Code;
use crate::labels::Direction;
use crate::metrics::PortMetrics;
use crate::page::Page;
use crate::reason::Reason;

const TOO_MANY_REQUESTS: u16 = 429;
const SERVICE_UNAVAILABLE: u16 = 503;

/// One breaker, with what it is counted by and what is answered in its upstream's place.
#[derive(Debug)]
pub(crate) struct Circuit {
    breaker: RefCell<Breaker>,
    spec: CircuitBreakerSpec,
    upstream: String,
    metrics: Arc<PortMetrics>,
    chance: Chance,
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) reason: Reason,
    pub(crate) status: u16,
    /// Of a call by gRPC.
    pub(crate) grpc: Option<Code>,
    /// How long the upstream asked to be left alone.
    pub(crate) rest: Option<Duration>,
}

impl Circuit {
    /// `None` where there is to be none.
    pub(crate) fn of(upstream: &Upstream, metrics: &Arc<PortMetrics>) -> Option<Self> {
        let spec = upstream.circuit_breaker.clone().filter(|spec| spec.mode != CircuitMode::Disabled)?;
        let settings = Settings {
            consecutive_failures: spec.consecutive_failures,
            failure_ratio: spec.failure_ratio.thousandths(),
            window: spec.window.length(),
            min_requests: spec.min_requests,
            slow: spec.slow_call.as_ref().map(|slow| (slow.threshold.length(), slow.ratio.thousandths())),
            open_for: spec.open_for.length(),
            max_open_for: spec.max_open_for.length(),
            max_concurrent: spec.half_open.max_concurrent,
            successes: spec.half_open.successes,
        };
        metrics.circuit.begun(spec.mode);
        Some(Self {
            breaker: RefCell::new(Breaker::new(settings, Instant::now())),
            spec,
            upstream: upstream.name.clone(),
            metrics: Arc::clone(metrics),
            chance: Chance::new(),
        })
    }

    /// Whether a request may go to the upstream; if not, after how long one may. Without a permit it goes, and its end says nothing: the
    /// breaker only observes, and would have kept it.
    pub(crate) fn ask(&self) -> Result<Option<Permit>, Duration> {
        let asked = self.watched(|breaker| breaker.ask(Instant::now()));
        match asked {
            Ok(permit) => Ok(Some(permit)),
            Err(_) if self.spec.mode == CircuitMode::Observe => {
                self.metrics.circuit.observed.add(1);
                Ok(None)
            }
            Err(after) => {
                self.metrics.circuit.rejected.add(1);
                Err(after)
            }
        }
    }

    /// Whether it keeps nothing from the upstream.
    pub(crate) fn is_closed(&self) -> bool {
        self.breaker.borrow().state() == State::Closed
    }

    /// A request that had a permit has ended.
    pub(crate) fn report(&self, permit: Permit, ended: Ended, took: Duration) {
        let (outcome, chance) = (self.outcome(ended), self.chance.next());
        let now = Instant::now();
        self.watched(|breaker| {
            // Asked before, as this very answer may be what opens it. What began in an earlier state must not keep it open.
            let says = breaker.is_current(permit);
            breaker.report(permit, outcome, took, now, chance);
            if let Some(rest) = ended.rest.filter(|_| says) {
                breaker.rest(rest, now);
            }
        });
    }

    /// As [`Self::report`], of a connection that was called for nothing but itself.
    pub(crate) fn report_call(&self, permit: Option<Permit>, reason: Reason, took: Duration) {
        if let Some(permit) = permit {
            self.report(permit, Ended { reason, status: 0, grpc: None, rest: None }, took);
        }
    }

    /// One try of a request has ended. Whether there may be another: it has a permit of its own then. Those who try while it is half-open
    /// have one try, since that one is to tell.
    pub(crate) fn allows_another(&self, permit: &Cell<Option<Permit>>, ended: Ended, took: Duration) -> bool {
        if let Some(permit) = permit.take() {
            self.report(permit, ended, took);
        }
        if self.breaker.borrow().state() == State::Closed {
            permit.set(self.watched(|breaker| breaker.ask(Instant::now())).ok());
            return true;
        }
        self.spec.mode == CircuitMode::Observe
    }

    /// Whether it is asked of an answer with this status how long it wants to be left alone.
    pub(crate) fn is_asking_for_rest(status: u16) -> bool {
        matches!(status, TOO_MANY_REQUESTS | SERVICE_UNAVAILABLE)
    }

    fn outcome(&self, ended: Ended) -> Outcome {
        match ended.reason {
            Reason::None => {}
            Reason::ConnectRefused
            | Reason::ConnectTimeout
            | Reason::ConnectFailed
            | Reason::UnknownHost
            | Reason::TlsCertificate
            | Reason::TlsFailed
            | Reason::Reset
            | Reason::ProtocolError
            | Reason::RequestTimeout => return Outcome::Failure,
            // What clients do and what we refuse is none of the upstream's doing.
            _ => return Outcome::Nothing,
        }
        let failed = match ended.grpc {
            Some(Code::RESOURCE_EXHAUSTED) => return Outcome::Throttled,
            Some(code) => self.spec.grpc_failure.iter().any(|failure| failure.number() == code.number()),
            None if ended.status == TOO_MANY_REQUESTS => return Outcome::Throttled,
            None => self.spec.failure_status.iter().any(|failure| failure.matches(ended.status)),
        };
        if failed { Outcome::Failure } else { Outcome::Success }
    }

    /// Does something with the breaker, and tells of a change of state.
    fn watched<T>(&self, act: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut breaker = self.breaker.borrow_mut();
        let before = breaker.state();
        let done = act(&mut breaker);
        let (state, cause) = (breaker.state(), breaker.cause());
        if state != before {
            self.metrics.circuit.moved(before, state, cause);
            let (upstream, cause, mode) = (&self.upstream, cause.as_str(), self.spec.mode);
            match state {
                State::Open => tracing::warn!(upstream, cause, ?mode, "circuit opened"),
                State::HalfOpen => tracing::info!(upstream, ?mode, "circuit half-open: requests may try"),
                State::Closed => tracing::info!(upstream, ?mode, "circuit closed"),
            }
        }
        done
    }

    /// What is answered in the upstream's place; with the page of a `ConfigMap`, where there is one.
    pub(crate) fn fallback(&self, after: Duration, page: Option<&Page>) -> OwnAnswer {
        let (spec, reason) = (&self.spec.fallback, Reason::CircuitOpen);
        let body = page.map_or(&spec.body, |page| &page.text);
        let body = body.replace("{upstream}", &self.upstream).replace("{reason}", reason.as_str()).into();
        let mut headers = vec![("Retry-After".into(), OwnAnswer::seconds(after))];
        // Checked when the profile was taken.
        let kind = HeaderValue::from_str(&spec.content_type);
        headers.extend(kind.map(|kind| ("Content-Type".into(), kind)));
        for header in &spec.headers.set {
            if let Ok(value) = HeaderValue::from_str(&header.value) {
                headers.retain(|(name, _): &(std::borrow::Cow<'_, str>, _)| {
                    !name.eq_ignore_ascii_case(&header.name)
                });
                headers.push((header.name.clone().into(), value));
            }
        }
        let status = StatusCode::from_u16(spec.status).unwrap_or(reason.status());
        OwnAnswer { reason, status, sentence: reason.sentence(Direction::Outbound), headers, body }
    }
}

impl Drop for Circuit {
    fn drop(&mut self) {
        self.metrics.circuit.gone(self.spec.mode, self.breaker.borrow().state());
    }
}
