//! What stands between a request and the app, in its order: the port's TLS, who asks, limits, the circuit breaker.

use std::cell::RefCell;
use std::time::Instant;

use jiff::Timestamp;
use outrigger_api::tls::PlainHttp;
use outrigger_api::traffic::RateSpec;

use crate::answer::OwnAnswer;
use crate::auth::{Auth, Came, Decision, Denied};
use crate::bucket::Bucket;
use crate::observe::Exchange;
use crate::port::{Port, Spec};
use crate::reason::Reason;
use crate::request::Request;
use crate::room::Room;

/// What a port's limits are. `None` in a port is all that a request without limits asks for.
#[derive(Debug)]
pub(crate) struct Guard {
    /// By TLS only.
    plain_http: Option<PlainHttp>,
    pub(crate) room: Option<Room>,
    rate: Option<RefCell<Bucket>>,
}

impl Guard {
    /// `None` where everything may pass.
    pub(crate) fn of(spec: &Spec) -> Option<Self> {
        let (tls, limits) = match spec {
            Spec::Inbound(inbound) => (inbound.tls.as_ref(), &inbound.limits),
            Spec::Upstream(upstream) => (None, &upstream.limits),
            Spec::Unknown => return None,
        };
        let bucket = |rate: &RateSpec| {
            let burst = rate.burst.unwrap_or(rate.requests);
            RefCell::new(Bucket::new(rate.requests, rate.per.length(), burst, Instant::now()))
        };
        let guard = Self {
            plain_http: tls.map(|tls| tls.plain_http),
            room: Room::of(limits),
            rate: limits.rate.as_ref().map(bucket),
        };
        let guards = guard.plain_http.is_some() || guard.room.is_some() || guard.rate.is_some();
        guards.then_some(guard)
    }

    /// What a client gets that speaks plain HTTP where TLS is spoken.
    fn plain(&self, request: &Request<'_>, is_tls: bool, exchange: &Exchange) -> Option<OwnAnswer> {
        let plain_http = self.plain_http.filter(|_| !is_tls)?;
        let redirect = match plain_http {
            PlainHttp::Refuse => None,
            PlainHttp::Redirect => OwnAnswer::redirect(request),
        };
        Some(redirect.unwrap_or_else(|| exchange.own(Reason::PlainHttp)))
    }

    /// What a request gets that is one too many in a time.
    fn limit(&self, exchange: &Exchange) -> Option<OwnAnswer> {
        let after = self.rate.as_ref()?.borrow_mut().take(exchange.started()).err()?;
        Some(exchange.own(Reason::RateLimited).with("Retry-After", OwnAnswer::seconds(after)))
    }
}

/// What a request gets that has no good credential, or one that does not allow it.
async fn authenticate(
    auth: &Auth,
    request: &Request<'_>,
    is_tls: bool,
    exchange: &Exchange,
) -> Option<OwnAnswer> {
    // There are some as long as the port asks for credentials; without, nobody could have a good one.
    let keys = exchange.port.keys();
    let now = Timestamp::now().as_second();
    let judged = match keys {
        Some(keys) => auth.judge(&keys, request, Came { is_tls, client: exchange.client() }, now).await,
        None => Err(Denied::Missing),
    };
    exchange.port.metrics.auth[Decision::of(&judged) as usize].add(1);
    match judged {
        Ok(allowed) => {
            let _ = exchange.identity.set(Box::new(allowed.to_app));
            if let Some(headers) = allowed.to_client {
                exchange.tell_client(headers);
            }
            None
        }
        Err(Denied::Forbidden) => Some(exchange.own(Reason::Forbidden)),
        Err(Denied::Busy) => Some(exchange.own(Reason::TooManyRequests)),
        Err(Denied::Answered(answer)) => Some(*answer),
        Err(Denied::Unavailable) => Some(exchange.own(Reason::AuthUnavailable)),
        Err(Denied::Loop) => Some(exchange.own(Reason::Loop)),
        Err(denied @ (Denied::Missing | Denied::Invalid(_))) => {
            let answer = exchange.own(Reason::Unauthenticated);
            Some(answer.with("WWW-Authenticate", auth.challenge(&denied)))
        }
    }
}

/// Whether all requests on this port can be judged at once. Not where they need a credential, which may take longer to judge than there
/// is time on this thread, or may wait for their turn.
pub(crate) fn judges_at_once(port: &Port) -> bool {
    let room = port.guard.as_ref().and_then(|guard| guard.room.as_ref());
    port.auth.is_none() && !room.is_some_and(Room::may_wait)
}

/// What a request is answered that may not go on; `None` where it may.
pub(crate) async fn refusal_in_time(
    request: &Request<'_>,
    is_tls: bool,
    exchange: &Exchange,
) -> Option<OwnAnswer> {
    let (port, guard) = (&exchange.port, exchange.port.guard.as_ref());
    if let Some(plain) = guard.and_then(|guard| guard.plain(request, is_tls, exchange)) {
        return Some(plain);
    }
    if let Some(auth) = &port.auth
        && let Some(refused) = authenticate(auth, request, is_tls, exchange).await
    {
        return Some(refused);
    }
    if let Some(refused) = guard.and_then(|guard| guard.limit(exchange)) {
        return Some(refused);
    }
    if let Some(room) = guard.and_then(|guard| guard.room.as_ref()) {
        match room.enter(&port.metrics.pending).await {
            Ok(waited) => exchange.entered(waited),
            Err(reason) => return Some(exchange.own(reason)),
        }
    }
    kept_by_circuit(exchange)
}

/// As [`refusal_in_time`], where that is [at once](judges_at_once).
pub(crate) fn refusal(request: &Request<'_>, is_tls: bool, exchange: &Exchange) -> Option<OwnAnswer> {
    if let Some(guard) = &exchange.port.guard {
        let refused = guard.plain(request, is_tls, exchange).or_else(|| guard.limit(exchange));
        if refused.is_some() {
            return refused;
        }
        if let Some(room) = &guard.room {
            match room.try_enter() {
                Ok(()) => exchange.entered(false),
                Err(reason) => return Some(exchange.own(reason)),
            }
        }
    }
    kept_by_circuit(exchange)
}

fn kept_by_circuit(exchange: &Exchange) -> Option<OwnAnswer> {
    let circuit = exchange.port.circuit.as_ref()?;
    match circuit.ask() {
        Ok(permit) => {
            exchange.permit.set(permit);
            None
        }
        Err(after) => Some(circuit.fallback(after, exchange.port.page().as_deref())),
    }
}
