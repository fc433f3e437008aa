//! What Prometheus is told beyond the sidecars' own metrics, and by which way it finds them.

use serde::{Deserialize, Serialize};

use crate::Fault;
use crate::port::PortRef;
use crate::profile::MAX_PATH;
#[cfg(feature = "crd")]
use crate::schema::{rule, without_default};

/// Metrics of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
pub struct MetricsSpec {
    /// Whether the pod gets the annotations `prometheus.io/scrape`, `port` and `path`, which lead to the proxy's metrics. A pod that
    /// has any of its own keeps those alone. Default: false.
    pub annotate: bool,
    /// Where the app has metrics of its own, which the proxy then passes on at `/app-metrics`. Default: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(with = "AppMetricsSpec"))]
    pub app: Option<AppMetricsSpec>,
}

/// Where the app has metrics of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(
    feature = "crd",
    derive(schemars::JsonSchema),
    schemars(extend("required" = ["port"]))
)]
pub struct AppMetricsSpec {
    /// The app's port, by its name or number. A pod without a port of that name passes nothing on.
    #[cfg_attr(
        feature = "crd",
        schemars(
            transform = without_default,
            extend("x-kubernetes-validations" = [rule("type(self) == int || self != '*'", "it takes one port, by its name or number")])
        )
    )]
    pub port: PortRef,
    /// The path, with a query where it takes one. Default: `/metrics`.
    #[cfg_attr(
        feature = "crd",
        schemars(
            length(max = MAX_PATH),
            extend("x-kubernetes-validations" = [rule(
                "self.matches('^/[A-Za-z0-9._~!$&()*+,;=:@%/?-]*$')",
                "it takes a path from / on: letters, digits and what else a URL may have",
            )])
        )
    )]
    pub path: String,
}

impl Default for AppMetricsSpec {
    fn default() -> Self {
        Self { port: PortRef::default(), path: "/metrics".to_owned() }
    }
}

/// The same in a sidecar's config, for one pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppMetrics {
    /// The app's port, at the pod's own address.
    pub port: u16,
    /// The path and its query.
    pub path: String,
}

impl MetricsSpec {
    /// Whether nothing is said: then it need not be written.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The faults of one that stands at `at`.
    pub(crate) fn check(&self, at: &str) -> Vec<Fault> {
        self.app.iter().flat_map(|app| app.check(&format!("{at}.app"))).collect()
    }
}

impl AppMetricsSpec {
    fn check(&self, at: &str) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.port == PortRef::All {
            let message = "it takes one port, by its name or number";
            faults.push(Fault::new(format!("{at}.port"), message));
        }
        if self.path.len() > MAX_PATH || !self.path.starts_with('/') || !self.path.bytes().all(may_be_in_path)
        {
            let message = format!(
                "{:?} is not a path from / on: letters, digits and what else a URL may have, at most {MAX_PATH} bytes",
                self.path
            );
            faults.push(Fault::new(format!("{at}.path"), message));
        }
        faults
    }
}

/// Of RFC 3986 section 3.3 and 3.4, but for the apostrophe, which the API server's rule would have to escape.
fn may_be_in_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._~!$&()*+,;=:@%/?-".contains(&byte)
}
