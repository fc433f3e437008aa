//! What stands between a request and the app, in its order: the port's TLS, who asks, limits, the circuit breaker.

use std::cell::RefCell;
use std::time::Instant;

use jiff::Timestamp;
use outrigger_api::tls::PlainHttp;
use outrigger_api::traffic::{LimitsSpec, RateSpec};

use crate::answer::OwnAnswer;
use crate::auth::{Auth, Decision, Denied};
use crate::bucket::Bucket;
use crate::observe::Exchange;
use crate::port::Spec;
use crate::reason::Reason;
use crate::request::Request;

/// What a port's limits are. `None` in a port is all that a request without limits asks for.
#[derive(Debug)]
pub(crate) struct Guard {
    /// By TLS only.
    plain_http: Option<PlainHttp>,
    max_requests: Option<u64>,
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
        let LimitsSpec { max_requests, rate } = limits;
        let bucket = |rate: &RateSpec| {
            let burst = rate.burst.unwrap_or(rate.requests);
            RefCell::new(Bucket::new(rate.requests, rate.per.length(), burst, Instant::now()))
        };
        let guard = Self {
            plain_http: tls.map(|tls| tls.plain_http),
            max_requests: max_requests.map(u64::from),
            rate: rate.as_ref().map(bucket),
        };
        let guards = guard.plain_http.is_some() || guard.max_requests.is_some() || guard.rate.is_some();
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

    /// What a request gets that is one too many.
    fn limit(&self, exchange: &Exchange) -> Option<OwnAnswer> {
        // This one is counted already.
        if self.max_requests.is_some_and(|most| exchange.port.metrics.active() > most) {
            return Some(exchange.own(Reason::TooManyRequests));
        }
        let after = self.rate.as_ref()?.borrow_mut().take(Instant::now()).err()?;
        Some(exchange.own(Reason::RateLimited).with("Retry-After", OwnAnswer::seconds(after)))
    }
}

/// What a request gets that has no good credential, or one that does not allow it.
async fn authenticate(auth: &Auth, request: &Request<'_>, exchange: &Exchange) -> Option<OwnAnswer> {
    // There are some as long as the port asks for credentials; without, nobody could have a good one.
    let keys = exchange.port.keys();
    let now = Timestamp::now().as_second();
    let judged = match keys {
        Some(keys) => auth.judge(&keys, request, now).await,
        None => Err(Denied::Missing),
    };
    exchange.port.metrics.auth[Decision::of(&judged) as usize].add(1);
    match judged {
        Ok((_, edits)) => {
            exchange.identity.replace(Some(Box::new(edits)));
            None
        }
        Err(Denied::Forbidden) => Some(exchange.own(Reason::Forbidden)),
        Err(Denied::Busy) => Some(exchange.own(Reason::TooManyRequests)),
        Err(denied) => {
            let answer = exchange.own(Reason::Unauthenticated);
            Some(answer.with("WWW-Authenticate", auth.challenge(denied)))
        }
    }
}

/// What a request is answered that may not go on; `None` where it may. For ports that ask for credentials, which may take longer to
/// judge than there is time on this thread.
pub(crate) async fn refusal_by_credential(
    auth: &Auth,
    request: &Request<'_>,
    is_tls: bool,
    exchange: &Exchange,
) -> Option<OwnAnswer> {
    let guard = exchange.port.guard.as_ref();
    if let Some(plain) = guard.and_then(|guard| guard.plain(request, is_tls, exchange)) {
        return Some(plain);
    }
    match authenticate(auth, request, exchange).await {
        None => limit_or_break(exchange),
        refused => refused,
    }
}

/// As [`refusal_by_credential`], for ports that ask for none.
pub(crate) fn refusal(request: &Request<'_>, is_tls: bool, exchange: &Exchange) -> Option<OwnAnswer> {
    let plain = exchange.port.guard.as_ref().and_then(|guard| guard.plain(request, is_tls, exchange));
    plain.or_else(|| limit_or_break(exchange))
}

fn limit_or_break(exchange: &Exchange) -> Option<OwnAnswer> {
    let port = &exchange.port;
    let refused = port.guard.as_ref().and_then(|guard| guard.limit(exchange));
    if refused.is_some() {
        return refused;
    }
    match port.circuit.as_ref()?.ask() {
        Ok(permit) => {
            exchange.permit.set(permit);
            None
        }
        Err(answer) => Some(answer),
    }
}
