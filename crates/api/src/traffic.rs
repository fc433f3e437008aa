//! How long and how much: timeouts, requests at a time, requests a second.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Fault;
use crate::span::Span;

/// How long is waited. What is not given stays as it is by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
pub struct TimeoutsSpec {
    /// For a connection to be accepted. Default: 3s, of upstreams 10s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(with = "Span"))]
    pub connect: Option<Span>,
    /// From when a request was sent until its answer's head is there; a body may take longer. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(with = "Span"))]
    pub request: Option<Span>,
    /// For the next request on a client's connection. Default: 90s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(with = "Span"))]
    pub idle: Option<Span>,
}

impl TimeoutsSpec {
    /// Whether none is given.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How much is let through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(
    feature = "crd",
    derive(schemars::JsonSchema),
    schemars(extend("x-kubernetes-validations" = [
        serde_json::json!({"rule": "!has(self.maxPending) || has(self.maxRequests)", "message": WITH_MOST, "fieldPath": ".maxPending"}),
        serde_json::json!({"rule": "!has(self.pendingTimeout) || has(self.maxPending)", "message": WITH_PENDING, "fieldPath": ".pendingTimeout"}),
    ]))
)]
pub struct LimitsSpec {
    /// Requests under way at a time; others get a 503. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(with = "u32", range(min = 1, max = MAX_REQUESTS)))]
    pub max_requests: Option<u32>,
    /// Requests that wait, in their order, where as many as `maxRequests` are under way; others get a 503. Default: none waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(with = "u32", range(min = 1, max = MAX_REQUESTS)))]
    pub max_pending: Option<u32>,
    /// How long one waits at most; then it gets a 503. Default: 1s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(with = "Span"))]
    pub pending_timeout: Option<Span>,
    /// Requests in a time; others get a 429. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(with = "RateSpec"))]
    pub rate: Option<RateSpec>,
}

/// How long a request waits for its turn where nothing else is said.
const PATIENCE: Duration = Duration::from_secs(1);

const WITH_MOST: &str = "it goes with maxRequests: only where these are under way does one wait";
const WITH_PENDING: &str = "it goes with maxPending: else none waits";

/// The most that a limit can be.
pub const MAX_REQUESTS: u32 = 1_000_000;

/// A bucket of tokens, of which each request takes one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema), schemars(extend("required" = ["requests"])))]
pub struct RateSpec {
    /// Tokens that come in each `per`.
    #[cfg_attr(
        feature = "crd",
        schemars(range(min = 1, max = MAX_REQUESTS), transform = crate::schema::without_default)
    )]
    pub requests: u32,
    /// The time in which they come. Default: 1s.
    pub per: Span,
    /// Tokens that the bucket holds: requests at once after a quiet time. Default: `requests`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(with = "u32", range(min = 1, max = MAX_REQUESTS)))]
    pub burst: Option<u32>,
}

impl Default for RateSpec {
    fn default() -> Self {
        Self { requests: 0, per: span("1s"), burst: None }
    }
}

pub(crate) fn span(text: &str) -> Span {
    text.parse().expect("the defaults are lengths of time")
}

impl LimitsSpec {
    /// Whether none is given.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// How long one request waits for its turn at most.
    pub fn patience(&self) -> Duration {
        self.pending_timeout.as_ref().map_or(PATIENCE, Span::length)
    }

    /// The faults of limits that stand at `at`.
    pub(crate) fn check(&self, at: &str) -> Vec<Fault> {
        let alone = [
            ("maxPending", self.max_pending.is_some() && self.max_requests.is_none(), WITH_MOST),
            ("pendingTimeout", self.pending_timeout.is_some() && self.max_pending.is_none(), WITH_PENDING),
        ];
        let alone = alone.into_iter().filter(|(_, is_alone, _)| *is_alone);
        let alone = alone.map(|(field, _, message)| Fault::new(format!("{at}.{field}"), message.to_owned()));
        let rate = self.rate.as_ref();
        let numbers = [
            ("maxRequests", self.max_requests),
            ("maxPending", self.max_pending),
            ("rate.requests", rate.map(|rate| rate.requests)),
            ("rate.burst", rate.and_then(|rate| rate.burst)),
        ];
        let wrong = numbers.into_iter().filter_map(|(field, number)| {
            let number = number.filter(|number| !(1..=MAX_REQUESTS).contains(number))?;
            Some(Fault::new(format!("{at}.{field}"), format!("{number} is not between 1 and {MAX_REQUESTS}")))
        });
        wrong.chain(alone).collect()
    }
}
