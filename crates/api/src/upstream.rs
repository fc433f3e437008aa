//! Whom an app calls, as users write it.

use serde::{Deserialize, Serialize};

use crate::Fault;
use crate::circuit_breaker::CircuitBreakerSpec;
use crate::config::Protocol;
use crate::names::is_label;
use crate::origination::UpstreamTlsSpec;
use crate::retries::RetriesSpec;
#[cfg(feature = "crd")]
use crate::schema::{host_rule, label_rule, rule, without_default};
use crate::traffic::{LimitsSpec, TimeoutsSpec};

/// The longest host name (RFC 1035 section 2.3.4).
const MAX_HOST: usize = 253;
/// The longest name of an environment variable that is taken.
const MAX_ENV: usize = 253;

/// One service that the app calls: what goes there is counted under its name, and policies are for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(
    feature = "crd",
    derive(schemars::JsonSchema),
    schemars(extend("required" = ["name", "host", "port"]))
)]
pub struct UpstreamSpec {
    /// Its name, the `upstream` label of the metrics.
    #[cfg_attr(
        feature = "crd",
        schemars(
            length(max = 63),
            transform = without_default,
            extend("x-kubernetes-validations" = [label_rule("it takes a name of its own: a-z, 0-9 and -")])
        )
    )]
    pub name: String,
    /// Where it is: a host name or an address, without scheme and port.
    #[cfg_attr(
        feature = "crd",
        schemars(
            length(max = MAX_HOST),
            transform = without_default,
            extend("x-kubernetes-validations" = [host_rule()])
        )
    )]
    pub host: String,
    /// Its port there: the Service's, not the container's.
    #[cfg_attr(feature = "crd", schemars(range(min = 1, max = 65535), transform = without_default))]
    pub port: u16,
    /// What it speaks. Default: `auto`, found out from each connection's first bytes.
    pub protocol: Protocol,
    /// An environment variable of the app, set to the address of a local listener that leads there. For `interception: ports`, where
    /// traffic does not come to the proxy by itself; with `redirect` it is left alone. Default: none, so no listener either.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "crd",
        schemars(
            with = "String",
            length(max = MAX_ENV),
            extend("x-kubernetes-validations" = [rule(
                "self.matches('^[A-Za-z_][A-Za-z0-9_]*$')",
                "it takes the name of a variable, as API_URL",
            )])
        )
    )]
    pub env: Option<String>,
    /// TLS, which the proxy speaks to it where the app speaks plainly. Default: what the app sends is passed on as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(with = "UpstreamTlsSpec"))]
    pub tls: Option<UpstreamTlsSpec>,
    /// How long is waited.
    #[serde(skip_serializing_if = "TimeoutsSpec::is_empty")]
    pub timeouts: TimeoutsSpec,
    /// How much is let through to it.
    #[serde(skip_serializing_if = "LimitsSpec::is_empty")]
    pub limits: LimitsSpec,
    /// When it is no longer called. Default: always called.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(with = "CircuitBreakerSpec"))]
    pub circuit_breaker: Option<CircuitBreakerSpec>,
    /// When a request that failed is sent once more. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(with = "RetriesSpec"))]
    pub retries: Option<RetriesSpec>,
}

impl UpstreamSpec {
    /// The faults that types can't express.
    pub(crate) fn check(&self, at: &str) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fault =
            |field: &str, message: String| faults.push(Fault::new(format!("{at}.{field}"), message));
        if !is_label(&self.name) {
            fault("name", format!("{:?} is no name: at most 63 of a-z, 0-9 and -", self.name));
        }
        if !is_host(&self.host) {
            let message = format!(
                "{:?} is neither a host name nor an address: as api.shop.svc, no scheme, no port",
                self.host
            );
            fault("host", message);
        }
        if self.port == 0 {
            fault("port", "it takes a port from 1 to 65535".to_owned());
        }
        if let Some(env) = self.env.as_deref().filter(|env| !is_variable(env)) {
            fault("env", format!("{env:?} is no name of a variable: letters, digits and _, as API_URL"));
        }
        faults.extend(self.tls.iter().flat_map(|tls| tls.check(&format!("{at}.tls"))));
        faults.extend(self.limits.check(&format!("{at}.limits")));
        faults.extend(
            self.circuit_breaker.iter().flat_map(|breaker| breaker.check(&format!("{at}.circuitBreaker"))),
        );
        faults.extend(self.retries.iter().flat_map(|retries| retries.check(&format!("{at}.retries"))));
        faults
    }
}

/// With underscores, which DNS takes in names of hosts that were made for something else.
pub(crate) fn is_host(text: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    let name = || text.strip_suffix('.').unwrap_or(text).split('.').all(is_part);
    text.len() <= MAX_HOST && (text.parse::<std::net::IpAddr>().is_ok() || name())
}

fn is_variable(text: &str) -> bool {
    (1..=MAX_ENV).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !text.starts_with(|first: char| first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses() {
        for host in ["api", "api.shop.svc", "api.shop.svc.cluster.local.", "10.0.0.1", "fd00::1", "_a.b-c.d"]
        {
            assert!(is_host(host), "{host}");
        }
        for host in ["", ".", "a..b", "-a", "a-", "http://api", "api:80", "a b", "[fd00::1]", "a/b"] {
            assert!(!is_host(host), "{host}");
        }
    }
}
