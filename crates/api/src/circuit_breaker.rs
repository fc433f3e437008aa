//! When calls to an upstream that fails are no longer made, and what the app gets instead.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Fault;
use crate::grpc::GrpcCode;
use crate::names::is_subdomain;
use crate::overrides::{HeadersSpec, MAX_BODY, StatusRef, is_content_type};
#[cfg(feature = "crd")]
use crate::schema::{object_name, rule, without_default};
use crate::span::Span;
use crate::traffic::span;

/// The longest page that a fallback may take from a `ConfigMap`, in bytes.
pub const MAX_PAGE: u64 = 64 * 1024;

/// Opens where an upstream fails, and lets single requests try after a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(
    feature = "crd",
    derive(schemars::JsonSchema),
    schemars(extend("x-kubernetes-validations" = [at_most_the_longest()]))
)]
pub struct CircuitBreakerSpec {
    /// Whether requests are kept from the upstream.
    pub mode: CircuitMode,
    /// Opens after so many failures one after the other. 0: not by these. Default: 5.
    #[cfg_attr(feature = "crd", schemars(range(max = 1000)))]
    pub consecutive_failures: u32,
    /// Opens where this share of the requests of `window` failed. 0: not by these. Default: 0.5.
    pub failure_ratio: Ratio,
    /// The time over which shares are taken. Default: 10s.
    pub window: Span,
    /// The fewest requests of which a share is taken. Default: 20.
    #[cfg_attr(feature = "crd", schemars(range(min = 1, max = 100_000)))]
    pub min_requests: u32,
    /// The statuses that are failures, beside connections that are not made, cut off or time out. 429 counts for the share alone.
    /// Default: `5xx`.
    #[cfg_attr(feature = "crd", schemars(length(max = 16)))]
    pub failure_status: Vec<StatusRef>,
    /// The statuses of gRPC that are. `RESOURCE_EXHAUSTED` counts for the share alone. Default: `UNAVAILABLE`, `INTERNAL`,
    /// `DEADLINE_EXCEEDED`, `DATA_LOSS`.
    #[cfg_attr(feature = "crd", schemars(length(max = 16)))]
    pub grpc_failure: Vec<GrpcCode>,
    /// Opens where a share of the requests was slow. Default: not by these.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(with = "SlowCallSpec"))]
    pub slow_call: Option<SlowCallSpec>,
    /// How long it stays open; twice as long after each time that it opens again, and up to a fifth more or less. Default: 5s.
    pub open_for: Span,
    /// The longest that it stays open; not shorter than `openFor`. Default: 60s.
    pub max_open_for: Span,
    /// How it closes again.
    pub half_open: HalfOpenSpec,
    /// What the app gets while it is open. A call by gRPC gets the status `UNAVAILABLE`.
    pub fallback: FallbackSpec,
}

/// Whether a circuit breaker acts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
pub enum CircuitMode {
    /// While it is open, requests do not reach the upstream.
    #[default]
    Enforce,
    /// It only reports what it would have done.
    Observe,
    /// There is none. Not `off`, which YAML 1.1, and so kubectl, reads as `false`.
    Disabled,
}

/// Calls that are slow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
pub struct SlowCallSpec {
    /// Longer than this is slow. Default: 2s.
    pub threshold: Span,
    /// Opens where this share of the requests of `window` was. Default: 0.8.
    pub ratio: Ratio,
}

/// How a breaker closes again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
pub struct HalfOpenSpec {
    /// Requests that may try at a time. Default: 1.
    #[cfg_attr(feature = "crd", schemars(range(min = 1, max = 100)))]
    pub max_concurrent: u32,
    /// Requests that must succeed one after the other. Default: 2.
    #[cfg_attr(feature = "crd", schemars(range(min = 1, max = 100)))]
    pub successes: u32,
}

/// An answer in the upstream's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
pub struct FallbackSpec {
    /// Its status. Default: 503.
    #[cfg_attr(
        feature = "crd",
        schemars(
            range(min = 200, max = 599),
            extend("x-kubernetes-validations" = [rule("!(self in [204, 205, 304])", "answers of that status have no body")])
        )
    )]
    pub status: u16,
    /// What its body is. Default: `application/json`.
    #[cfg_attr(
        feature = "crd",
        schemars(
            length(max = 128),
            extend("x-kubernetes-validations" = [rule(
                "self.matches('^[!-~]+/[!-~][ -~]*$')",
                "it takes a type, as application/json",
            )])
        )
    )]
    pub content_type: String,
    /// Its body, in which `{upstream}` stands for the upstream's name and `{reason}` for why. Default: `{"error":"{reason}"}`.
    #[cfg_attr(feature = "crd", schemars(length(max = MAX_BODY)))]
    pub body: String,
    /// Where its body stands instead: a page that is too large for a profile, or changes without one. Default: `body`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(with = "BodyFrom"))]
    pub body_from: Option<BodyFrom>,
    /// Headers of it.
    #[serde(skip_serializing_if = "HeadersSpec::is_empty")]
    pub headers: HeadersSpec,
}

/// A file of a `ConfigMap` in the pod's namespace. A changed one is taken up as it comes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(
    feature = "crd",
    derive(schemars::JsonSchema),
    schemars(extend("required" = ["configMapName", "key"]))
)]
pub struct BodyFrom {
    /// The `ConfigMap`.
    #[cfg_attr(feature = "crd", schemars(schema_with = "object_name", transform = without_default))]
    pub config_map_name: String,
    /// The file, a text of at most 64 KiB, in which `{upstream}` and `{reason}` are filled in as in `body`.
    #[cfg_attr(
        feature = "crd",
        schemars(
            length(max = 253),
            transform = without_default,
            extend("x-kubernetes-validations" = [rule(
                "self.matches('^[-._a-zA-Z0-9]+$') && !(self in ['.', '..'])",
                KEY_FAULT,
            )])
        )
    )]
    pub key: String,
}

const LONGER_FAULT: &str = "it is longer than maxOpenFor, which is 60s where it is not set";

#[cfg(feature = "crd")]
fn at_most_the_longest() -> serde_json::Value {
    // What is no length of time is told by the length's own rule.
    let is_length = "matches('^[0-9]{1,8}(ms|s|m|h)$')";
    let rule = format!(
        "!self.openFor.{is_length} || !self.maxOpenFor.{is_length} || duration(self.openFor) <= duration(self.maxOpenFor)"
    );
    serde_json::json!({"rule": rule, "message": LONGER_FAULT, "fieldPath": ".openFor"})
}

const KEY_FAULT: &str = "it takes the name of a file, as down.html";

impl BodyFrom {
    fn check(&self, at: &str) -> Vec<Fault> {
        let mut faults = Vec::new();
        if !is_subdomain(&self.config_map_name) {
            let message = format!(
                "{:?} is no name of an object: at most 253 of a-z, 0-9, - and .",
                self.config_map_name
            );
            faults.push(Fault::new(format!("{at}.configMapName"), message));
        }
        let is_of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let is_file = (1..=253).contains(&self.key.len())
            && self.key.bytes().all(is_of_a_name)
            && ![".", ".."].contains(&self.key.as_str());
        if !is_file {
            faults.push(Fault::new(format!("{at}.key"), KEY_FAULT.to_owned()));
        }
        faults
    }
}

/// A share, from 0 to 1, to a thousandth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ratio(u16);

impl Ratio {
    pub(crate) const FIFTH: Self = Self(200);

    /// Thousandths, from 0 to 1000.
    pub const fn thousandths(self) -> u16 {
        self.0
    }
}

impl Serialize for Ratio {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(f64::from(self.0) / 1000.0)
    }
}

impl<'de> Deserialize<'de> for Ratio {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let share = f64::deserialize(deserializer)?;
        if !(0.0..=1.0).contains(&share) {
            return Err(serde::de::Error::custom(format!(
                "{share} is no share: it takes a number from 0 to 1, as 0.5"
            )));
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // from 0 to 1000
        let thousandths = (share * 1000.0).round() as u16;
        Ok(Self(thousandths))
    }
}

#[cfg(feature = "crd")]
impl schemars::JsonSchema for Ratio {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Ratio".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "number", "minimum": 0, "maximum": 1})
    }
}

impl Default for CircuitBreakerSpec {
    fn default() -> Self {
        Self {
            mode: CircuitMode::default(),
            consecutive_failures: 5,
            failure_ratio: Ratio(500),
            window: span("10s"),
            min_requests: 20,
            failure_status: vec![StatusRef::Class(5)],
            grpc_failure: GrpcCode::OF_SERVERS.into(),
            slow_call: None,
            open_for: span("5s"),
            max_open_for: span("60s"),
            half_open: HalfOpenSpec::default(),
            fallback: FallbackSpec::default(),
        }
    }
}

impl Default for SlowCallSpec {
    fn default() -> Self {
        Self { threshold: span("2s"), ratio: Ratio(800) }
    }
}

impl Default for HalfOpenSpec {
    fn default() -> Self {
        Self { max_concurrent: 1, successes: 2 }
    }
}

impl Default for FallbackSpec {
    fn default() -> Self {
        Self {
            status: 503,
            content_type: "application/json".to_owned(),
            body: r#"{"error":"{reason}"}"#.to_owned(),
            body_from: None,
            headers: HeadersSpec::default(),
        }
    }
}

impl CircuitBreakerSpec {
    /// The faults of a breaker that stands at `at`.
    pub(crate) fn check(&self, at: &str) -> Vec<Fault> {
        let mut faults = self.fallback.headers.check(&format!("{at}.fallback.headers"));
        let body_from = self.fallback.body_from.iter();
        faults.extend(body_from.flat_map(|from| from.check(&format!("{at}.fallback.bodyFrom"))));
        let mut fault =
            |field: &str, message: String| faults.push(Fault::new(format!("{at}.{field}"), message));
        let numbers = [
            ("consecutiveFailures", self.consecutive_failures, 0, 1000),
            ("minRequests", self.min_requests, 1, 100_000),
            ("halfOpen.maxConcurrent", self.half_open.max_concurrent, 1, 100),
            ("halfOpen.successes", self.half_open.successes, 1, 100),
        ];
        for (field, number, least, most) in numbers {
            if !(least..=most).contains(&number) {
                fault(field, format!("{number} is not between {least} and {most}"));
            }
        }
        for (field, entries) in
            [("failureStatus", self.failure_status.len()), ("grpcFailure", self.grpc_failure.len())]
        {
            if entries > 16 {
                fault(field, format!("{entries} entries: at most 16"));
            }
        }
        if self.open_for.length() > self.max_open_for.length() {
            fault("openFor", LONGER_FAULT.to_owned());
        }
        let FallbackSpec { status, content_type, body, .. } = &self.fallback;
        if !(200..=599).contains(status) || [204, 205, 304].contains(status) {
            fault("fallback.status", format!("{status} is no status with a body from 200 to 599"));
        }
        if !is_content_type(content_type) {
            fault(
                "fallback.contentType",
                format!("{content_type:?} is no type: it takes one as application/json"),
            );
        }
        if body.chars().count() > MAX_BODY {
            fault("fallback.body", format!("longer than {MAX_BODY} characters"));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_written_as_they_were() {
        for text in ["0.0", "0.5", "0.333", "1.0"] {
            let ratio: Ratio = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&ratio).unwrap(), text);
        }
        for text in ["-0.1", "1.1", "\"0.5\""] {
            assert!(serde_json::from_str::<Ratio>(text).is_err(), "{text}");
        }
    }
}
