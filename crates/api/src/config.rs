//! The sidecar config: everything a sidecar must know, resolved at admission.
//!
//! It stands in the pod's annotation [`crate::names::CONFIG_ANNOTATION`] and reaches the sidecar as a file, so that
//! no sidecar needs a control plane to run.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::auth::AuthSpec;
use crate::circuit_breaker::CircuitBreakerSpec;
use crate::logs::LogSource;
use crate::metrics::AppMetrics;
use crate::names::ADMIN_PORT;
use crate::origination::UpstreamTlsSpec;
use crate::overrides::{HeadersSpec, OverrideSpec};
use crate::probe::Probe;
use crate::profile::{AccessLog, LogLevel};
use crate::retries::RetriesSpec;
use crate::sync::SyncSource;
use crate::tap::TapSpec;
use crate::tls::TlsSpec;
use crate::traffic::{LimitsSpec, TimeoutsSpec};

/// The version of the document that this code writes.
pub const VERSION: u32 = 1;

/// What the sidecars of one pod run by. Fields of a newer version are ignored by an older sidecar, but for those that say whom or what to
/// let in (`auth`, `tls.clientCertificates`, `sync`): there it refuses the document, as without them it could let in what it should not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SidecarConfig {
    /// Version of the document, now [`VERSION`].
    pub version: u32,
    /// The profile that it was made from, as `namespace/name`.
    pub profile: String,
    /// Bearer token for `/stats` and `/tap`: who may read the pod may read these.
    pub token: String,
    /// How much the sidecars log.
    #[serde(default)]
    pub log_level: LogLevel,
    /// What the proxy writes for each request.
    #[serde(default, skip_serializing_if = "AccessLog::is_none")]
    pub access_log: AccessLog,
    /// Whether requests are told live.
    #[serde(default, skip_serializing_if = "TapSpec::is_off")]
    pub tap: TapSpec,
    /// How traffic reaches the proxy.
    #[serde(default, skip_serializing_if = "Interception::is_ports")]
    pub interception: Interception,
    /// The ports taken over: one listener each, or with `redirect` one for all of them.
    #[serde(default)]
    pub inbound: Vec<Inbound>,
    /// Whom the app calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upstreams: Vec<Upstream>,
    /// The probes and handlers that the proxy answers for the app.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<Probe>,
    /// The app's own metrics, where they are passed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_metrics: Option<AppMetrics>,
    /// The log files that the log adapter follows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<LogSource>,
    /// The repositories that the content sync follows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sync: Vec<SyncSource>,
}

/// One port of the app that the proxy has taken over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inbound {
    /// The port's name, which now belongs to the proxy. It is the `port` label of the metrics.
    pub name: String,
    /// The port that the proxy listens on. With `redirect` all have [`INBOUND_PORT`](crate::names::INBOUND_PORT), and are told apart by `target`.
    pub listen: u16,
    /// The app's own port, reached at the pod's own addresses: where clients reached it before. With `redirect`, 0 stands for every port that
    /// no entry before this one is for.
    pub target: u16,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// TLS, which ends at the proxy. Each Secret is found in a directory of its name, in [`crate::names::SECRETS_DIR`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,
    /// Who may ask what. Each Secret is found as those of `tls` are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthSpec>,
    /// How long is waited.
    #[serde(default, skip_serializing_if = "TimeoutsSpec::is_empty")]
    pub timeouts: TimeoutsSpec,
    /// How much is let through to the app.
    #[serde(default, skip_serializing_if = "LimitsSpec::is_empty")]
    pub limits: LimitsSpec,
    /// Headers of requests that are set and taken out.
    #[serde(default, skip_serializing_if = "HeadersSpec::is_empty")]
    pub request_headers: HeadersSpec,
    /// Headers of answers that are set and taken out.
    #[serde(default, skip_serializing_if = "HeadersSpec::is_empty")]
    pub response_headers: HeadersSpec,
    /// Answers that are changed, by their status.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<OverrideSpec>,
}

impl Inbound {
    /// Whether it is the entry for every other port.
    pub const fn is_for_rest(&self) -> bool {
        self.target == 0
    }

    /// Whether it is the entry for this port of the app, if none before it is.
    pub const fn is_for(&self, port: u16) -> bool {
        self.is_for_rest() || self.target == port
    }

    /// What is taken to be spoken: with `auto`, HTTP alone where anything is said of requests. What is passed on as bytes would go past
    /// it, and a client could see to that by how it begins.
    pub fn spoken(&self) -> Protocol {
        let is_http = self.protocol == Protocol::Auto && self.rules_requests();
        if is_http { Protocol::Http } else { self.protocol }
    }

    /// Whether anything is said of requests, which bytes have none of.
    pub fn rules_requests(&self) -> bool {
        self.auth.is_some()
            || !self.limits.is_empty()
            || !self.request_headers.is_empty()
            || !self.response_headers.is_empty()
            || !self.overrides.is_empty()
    }
}

/// One service that the app calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Upstream {
    /// Its name: the `upstream` label of the metrics.
    pub name: String,
    /// Its host name or address.
    pub host: String,
    /// Its port there.
    pub port: u16,
    /// What is spoken on it.
    #[serde(default)]
    pub protocol: Protocol,
    /// TLS, which the proxy speaks to it. Each Secret is found as those of `Inbound::tls` are, each `ConfigMap` in
    /// [`crate::names::CONFIG_MAPS_DIR`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<UpstreamTlsSpec>,
    /// The port of loopback that leads there. None with `redirect`, where calls come to the proxy by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<u16>,
    /// How long is waited.
    #[serde(default, skip_serializing_if = "TimeoutsSpec::is_empty")]
    pub timeouts: TimeoutsSpec,
    /// How much is let through to it.
    #[serde(default, skip_serializing_if = "LimitsSpec::is_empty")]
    pub limits: LimitsSpec,
    /// When it is no longer called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit_breaker: Option<CircuitBreakerSpec>,
    /// When a request that failed is sent once more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<RetriesSpec>,
}

/// How traffic reaches the proxy, decided at admission.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interception {
    /// The proxy listens on a port for each that it took over.
    #[default]
    Ports,
    /// The kernel sends it to [`INBOUND_PORT`](crate::names::INBOUND_PORT) and [`OUTBOUND_PORT`](crate::names::OUTBOUND_PORT).
    Redirect,
}

impl Interception {
    /// Whether it is the default.
    pub fn is_ports(&self) -> bool {
        *self == Self::Ports
    }

    /// Its name, as in profiles.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ports => "ports",
            Self::Redirect => "redirect",
        }
    }
}

/// What a port speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
pub enum Protocol {
    /// Found out from each connection's first bytes.
    #[default]
    Auto,
    /// HTTP/1 and, where a connection opens with its preface, HTTP/2: requests are counted and timed.
    Http,
    /// Bytes, passed on untouched: connections and bytes are counted.
    Tcp,
}

impl Protocol {
    /// Whether requests may be seen on it.
    pub const fn may_be_http(self) -> bool {
        matches!(self, Self::Http | Self::Auto)
    }
}

/// Why a sidecar config can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON, or a field of the wrong type.
    #[error("failed to parse sidecar config: {0}")]
    Syntax(#[from] serde_json::Error),
    /// Two listeners on one port: the second could never bind.
    #[error("listen port {0} appears twice: each port taken over needs its own")]
    DuplicateListen(u16),
    /// A listener on port 0 or on the admin port.
    #[error("{name:?}: {field} port {port} is not usable: 1-65535 except the admin port {ADMIN_PORT}")]
    BadPort {
        /// Name of the port taken over, or of the upstream.
        name: String,
        /// Which of its ports.
        field: &'static str,
        /// The value.
        port: u16,
    },
}

impl SidecarConfig {
    /// Parses and checks a document.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = serde_json::from_str(text)?;
        config.check()?;
        Ok(config)
    }

    /// Checks what types can't say.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut listening = BTreeSet::new();
        let mut listen =
            |port| if listening.insert(port) { Ok(()) } else { Err(ConfigError::DuplicateListen(port)) };
        for inbound in &self.inbound {
            usable(&inbound.name, "listen", inbound.listen)?;
            if self.interception.is_ports() {
                listen(inbound.listen)?;
            }
            if self.interception.is_ports() || !inbound.is_for_rest() {
                usable(&inbound.name, "target", inbound.target)?;
            }
        }
        for upstream in &self.upstreams {
            if let Some(port) = upstream.listen {
                usable(&upstream.name, "listen", port)?;
                listen(port)?;
            }
        }
        Ok(())
    }
}

fn usable(name: &str, field: &'static str, port: u16) -> Result<(), ConfigError> {
    if port == 0 || port == ADMIN_PORT {
        return Err(ConfigError::BadPort { name: name.to_owned(), field, port });
    }
    Ok(())
}

/// The first half of a document's SHA-256, in hexadecimal: sidecars with the same one run by the same document.
pub fn hash(document: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(document).into();
    let (half, _) = digest.split_first_chunk().expect("16 of the 32 bytes");
    format!("{:032x}", u128::from_be_bytes(*half))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::INBOUND_PORT;

    /// The example of FIPS 180-2, appendix B.1. Beginnings with zeros keep them.
    #[test]
    fn the_hash_is_half_a_sha_256() {
        assert_eq!(hash("abc"), "ba7816bf8f01cfea414140de5dae2223");
        assert!((0..100).all(|n: u32| hash(&n.to_string()).len() == 32));
    }

    fn document(listen: &[u16]) -> String {
        let inbound: Vec<_> = listen
            .iter()
            .map(|port| serde_json::json!({"name": "http", "listen": port, "target": 8080, "protocol": "http"}))
            .collect();
        serde_json::json!({"version": 1, "profile": "a/b", "token": "t", "inbound": inbound, "newer": 1})
            .to_string()
    }

    #[test]
    fn unknown_fields_of_a_newer_version_are_ignored() {
        assert_eq!(SidecarConfig::parse(&document(&[15200])).unwrap().inbound.len(), 1);
    }

    /// A sidecar one version older refused documents with `limits.maxPending`, and its pod did not start.
    #[test]
    fn unknown_fields_of_policies_are_ignored_but_not_of_those_that_let_in() {
        let with = |policies: serde_json::Value| {
            let mut document: serde_json::Value = serde_json::from_str(&document(&[15200])).unwrap();
            document["inbound"][0].as_object_mut().unwrap().extend(policies.as_object().unwrap().clone());
            document["upstreams"] = serde_json::json!([{
                "name": "a", "host": "a", "port": 1, "tls": {"ca": {"secretName": "a", "newer": 1}, "newer": 1},
                "retries": {"newer": 1}, "circuitBreaker": {"newer": 1, "fallback": {"newer": 1}, "halfOpen": {"newer": 1}},
            }]);
            SidecarConfig::parse(&document.to_string())
        };
        let taken = serde_json::json!({
            "limits": {"newer": 1, "rate": {"requests": 5, "newer": 1}}, "timeouts": {"newer": 1},
            "overrides": [{"status": [404], "replaceStatus": 410, "newer": 1}], "requestHeaders": {"newer": 1},
            "tls": {"secretName": "a", "newer": 1},
        });
        with(taken).unwrap();
        for refused in [
            serde_json::json!({"auth": {"jwt": {"secretName": "a"}, "newer": 1}}),
            serde_json::json!({"auth": {"jwt": {"secretName": "a"}, "rules": [{"newer": 1}]}}),
            serde_json::json!({"tls": {"secretName": "a", "clientCertificates": {"secretName": "a", "newer": 1}}}),
        ] {
            let message = with(refused).unwrap_err().to_string();
            assert!(message.contains("unknown field `newer`"), "{message}");
        }
    }

    #[test]
    fn redirected_ports_share_a_listener() {
        let text = document(&[INBOUND_PORT, INBOUND_PORT]);
        assert!(SidecarConfig::parse(&text).is_err());
        let redirect = text.replacen('{', r#"{"interception":"redirect","#, 1);
        assert_eq!(SidecarConfig::parse(&redirect).unwrap().inbound.len(), 2);
    }

    #[test]
    fn ports_that_cannot_be_bound_are_refused() {
        for (listen, wanted) in
            [(vec![15200, 15200], "15200 appears twice"), (vec![0], "port 0"), (vec![15190], "15190")]
        {
            let message = SidecarConfig::parse(&document(&listen)).unwrap_err().to_string();
            assert!(message.contains(wanted), "{message}");
        }
    }
}
