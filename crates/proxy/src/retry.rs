//! Whether a request that failed is sent to its upstream once more. Each try is a request of its own to the circuit breaker.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use outrigger_api::retries::RetriesSpec;

use crate::chance::Chance;
use crate::circuit::Ended;
use crate::grpc::Code;
use crate::method::Method;
use crate::observe::Exchange;
use crate::reason::Reason;
use crate::window::Window;

/// The time of which the budget is a share.
const WINDOW: Duration = Duration::from_secs(10);

/// How far a try came that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tried {
    /// The upstream has no byte of it, or said that it did nothing with it.
    Untouched,
    /// The connection was cut before there was an answer.
    Cut,
    /// It was answered so, and nothing of that has been passed on. Of a call by gRPC: by which status, where no message came before it.
    Answered(u16, Option<Code>),
}

/// When requests to one upstream are sent again.
#[derive(Debug)]
pub(crate) struct Retries {
    spec: RetriesSpec,
    budget: RefCell<Budget>,
    chance: Chance,
}

impl Retries {
    pub(crate) fn new(spec: &RetriesSpec) -> Self {
        let (share, per_second) = (spec.budget.thousandths(), spec.min_per_second);
        Self {
            spec: spec.clone(),
            budget: RefCell::new(Budget::new(share, per_second, Instant::now())),
            chance: Chance::new(),
        }
    }

    /// A request has come, of which others may be sent again.
    pub(crate) fn count(&self, now: Instant) {
        self.budget.borrow_mut().count(now);
    }

    /// Whether one of this method that came so far may be sent again, and has a chance to end otherwise.
    fn is_worth(&self, tried: Tried, method: Method, reason: Reason) -> bool {
        match tried {
            Tried::Untouched => matches!(
                reason,
                Reason::ConnectRefused
                    | Reason::ConnectTimeout
                    | Reason::ConnectFailed
                    | Reason::UnknownHost
                    | Reason::TlsFailed
                    | Reason::Reset
            ),
            Tried::Cut => method.is_idempotent(),
            Tried::Answered(_, Some(code)) => {
                self.spec.grpc_status.iter().any(|status| status.number() == code.number())
            }
            Tried::Answered(code, None) => {
                method.is_idempotent() && self.spec.status.iter().any(|status| status.matches(code))
            }
        }
    }

    /// How long is waited before a try, of which there were so many beside the first.
    fn pause(&self, resent: u32) -> Duration {
        let doubled = self.spec.backoff.length().saturating_mul(1 << resent.min(20));
        doubled.min(self.spec.max_backoff.length()).mul_f64(0.5 + 0.5 * self.chance.next())
    }
}

/// Whether a request that failed so is sent once more, after [`Exchange::pause`]. What its end would be without that is `reason`.
pub(crate) fn again(exchange: &Exchange, tried: Tried, reason: Reason) -> bool {
    let port = &exchange.port;
    let Some(retries) = &port.retries else { return false };
    let (now, resent) = (Instant::now(), exchange.resent());
    if resent >= retries.spec.max || !retries.is_worth(tried, exchange.method, reason) {
        return false;
    }
    let pause = retries.pause(resent);
    if exchange.time_left().is_some_and(|left| left <= pause) {
        return false;
    }
    if !retries.budget.borrow_mut().spend(now) {
        port.metrics.upstream.unbudgeted.add(1);
        return false;
    }
    let (status, grpc) = match tried {
        Tried::Answered(status, grpc) => (status, grpc),
        Tried::Untouched | Tried::Cut => (reason.status().as_u16(), None),
    };
    exchange.has_another_try(Ended { reason, status, grpc, rest: None }, now, pause)
}

/// How many requests may be sent again: a share of those that came of late, and a few a second.
#[derive(Debug)]
struct Budget {
    /// Tries; those that are not a request's first count as failed.
    window: Window,
    /// In thousandths.
    share: u16,
    /// In one window, beside the share.
    least: u64,
}

impl Budget {
    fn new(share: u16, per_second: u32, now: Instant) -> Self {
        Self { window: Window::new(WINDOW, now), share, least: u64::from(per_second) * WINDOW.as_secs() }
    }

    fn count(&mut self, now: Instant) {
        self.window.add(now, false, false);
    }

    /// Takes one; false where none is left.
    fn spend(&mut self, now: Instant) -> bool {
        self.window.advance(now);
        let tries = self.window.totals();
        let (firsts, further) = (u64::from(tries.requests - tries.failed), u64::from(tries.failed));
        let is_left = further < self.least + firsts * u64::from(self.share) / 1000;
        if is_left {
            self.window.add(now, true, false);
        }
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn spent(budget: &mut Budget, now: Instant) -> usize {
        (0..1000).take_while(|_| budget.spend(now)).count()
    }

    #[test]
    fn a_share_of_what_came_of_late_may_be_sent_again_and_a_few_beside() {
        let start = Instant::now();
        let mut budget = Budget::new(200, 1, start);
        assert_eq!(spent(&mut budget, start), 10);
        (0..100).for_each(|_| budget.count(start + SECOND));
        assert_eq!(spent(&mut budget, start + SECOND), 20);
        assert_eq!(spent(&mut budget, start + 5 * SECOND), 0);
        // All of that is forgotten.
        assert_eq!(spent(&mut budget, start + 12 * SECOND), 10);
    }

    #[test]
    fn without_either_none_is() {
        let start = Instant::now();
        let mut budget = Budget::new(0, 0, start);
        (0..100).for_each(|_| budget.count(start));
        assert_eq!(spent(&mut budget, start), 0);
    }

    #[test]
    fn only_what_is_safe_is_sent_again() {
        let unavailable: RetriesSpec =
            serde_json::from_value(serde_json::json!({"grpcStatus": ["UNAVAILABLE"]})).unwrap();
        let (default, with_grpc) = (Retries::new(&RetriesSpec::default()), Retries::new(&unavailable));
        let code = |code| Tried::Answered(200, Some(code));
        for (retries, tried, method, reason, wanted) in [
            (&default, Tried::Untouched, Method::Post, Reason::ConnectRefused, true),
            (&default, Tried::Untouched, Method::Post, Reason::ProtocolError, false),
            (&default, Tried::Cut, Method::Post, Reason::Reset, false),
            (&default, Tried::Cut, Method::Patch, Reason::Reset, false),
            (&default, Tried::Cut, Method::Put, Reason::Reset, true),
            (&default, Tried::Answered(503, None), Method::Delete, Reason::None, true),
            (&default, Tried::Answered(503, None), Method::Post, Reason::None, false),
            (&default, Tried::Answered(500, None), Method::Get, Reason::None, false),
            (&default, code(Code::UNAVAILABLE), Method::Post, Reason::None, false),
            (&with_grpc, code(Code::UNAVAILABLE), Method::Post, Reason::None, true),
            (&with_grpc, code(Code::INTERNAL), Method::Post, Reason::None, false),
        ] {
            assert_eq!(retries.is_worth(tried, method, reason), wanted, "{tried:?} {method:?} {reason:?}");
        }
    }

    #[test]
    fn each_pause_is_twice_as_long_up_to_the_longest() {
        let retries = Retries::new(&RetriesSpec::default());
        for (resent, longest) in [(0, 25), (1, 50), (3, 200), (4, 250), (40, 250)] {
            let longest = Duration::from_millis(longest);
            let pause = retries.pause(resent);
            assert!(pause >= longest / 2 && pause <= longest, "{resent}: {pause:?}");
        }
    }
}
