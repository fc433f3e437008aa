//! Requests that are sent to an upstream once more.

use serde::{Deserialize, Serialize};

use crate::Fault;
use crate::circuit_breaker::Ratio;
use crate::grpc::GrpcCode;
use crate::overrides::StatusRef;
use crate::span::Span;
use crate::traffic::span;

/// When a request that failed is sent once more: only where that is safe, so that an upstream never acts twice on one that its caller
/// made once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
pub struct RetriesSpec {
    /// How often one request is sent again at most. Default: 1.
    #[cfg_attr(feature = "crd", schemars(range(min = 1, max = 5)))]
    pub max: u32,
    /// The statuses after which it is, beside connections that are not made or cut off: of methods that may be repeated (GET, HEAD,
    /// OPTIONS, TRACE, PUT, DELETE; RFC 9110 section 9.2.2). Default: 502, 503, 504.
    #[cfg_attr(feature = "crd", schemars(length(max = 16)))]
    pub status: Vec<StatusRef>,
    /// The statuses of gRPC after which a call is, if the upstream sent nothing else. gRPC does not say which methods may be repeated:
    /// whoever lists one says that all of this upstream's may. Default: none.
    #[cfg_attr(feature = "crd", schemars(length(max = 16)))]
    pub grpc_status: Vec<GrpcCode>,
    /// What share of the requests of the last ten seconds may be sent again. Default: 0.2.
    pub budget: Ratio,
    /// How many a second may be beside that share, so that an upstream that is seldom called has a budget too. Default: 3.
    #[cfg_attr(feature = "crd", schemars(range(max = 1000)))]
    pub min_per_second: u32,
    /// How long is waited before the second try, a half to the whole of it; twice as long before each further one. Default: 25ms.
    pub backoff: Span,
    /// The longest that is waited. Default: 250ms.
    pub max_backoff: Span,
}

impl Default for RetriesSpec {
    fn default() -> Self {
        Self {
            max: 1,
            status: [502, 503, 504].map(StatusRef::Code).into(),
            grpc_status: Vec::new(),
            budget: Ratio::FIFTH,
            min_per_second: 3,
            backoff: span("25ms"),
            max_backoff: span("250ms"),
        }
    }
}

impl RetriesSpec {
    /// The faults of retries that stand at `at`.
    pub(crate) fn check(&self, at: &str) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fault =
            |field: &str, message: String| faults.push(Fault::new(format!("{at}.{field}"), message));
        for (field, number, least, most) in
            [("max", self.max, 1, 5), ("minPerSecond", self.min_per_second, 0, 1000)]
        {
            if !(least..=most).contains(&number) {
                fault(field, format!("{number} is not between {least} and {most}"));
            }
        }
        for (field, entries) in [("status", self.status.len()), ("grpcStatus", self.grpc_status.len())] {
            if entries > 16 {
                fault(field, format!("{entries} entries: at most 16"));
            }
        }
        faults
    }
}
