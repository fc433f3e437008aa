//! The sidecar config: everything a sidecar must know, resolved at admission.
//!
//! It stands in the pod's annotation [`crate::names::CONFIG_ANNOTATION`] and reaches the sidecar as a file, so that
//! no sidecar needs a control plane to run.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::logs::LogSource;
use crate::probe::Probe;
use crate::profile::{AccessLog, LogLevel};

/// The version of the document that this code writes.
pub const VERSION: u32 = 1;

/// What the sidecars of one pod run by. Fields of a newer version are ignored by an older sidecar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SidecarConfig {
    /// Version of the document, now [`VERSION`].
    pub version: u32,
    /// The profile that it was made from, as `namespace/name`.
    pub profile: String,
    /// Bearer token for `/stats`: who may read the pod may read its stats.
    pub token: String,
    /// How much the sidecars log.
    #[serde(default)]
    pub log_level: LogLevel,
    /// What the proxy writes for each request.
    #[serde(default, skip_serializing_if = "AccessLog::is_none")]
    pub access_log: AccessLog,
    /// The ports taken over, one listener each.
    #[serde(default)]
    pub inbound: Vec<Inbound>,
    /// The probes and handlers that the proxy answers for the app.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<Probe>,
    /// The log files that the log adapter follows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<LogSource>,
}

/// One port of the app that the proxy has taken over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inbound {
    /// The port's name, which now belongs to the proxy. It is the `port` label of the metrics.
    pub name: String,
    /// The port that the proxy listens on.
    pub listen: u16,
    /// The app's own port, reached at the pod's own addresses: where clients reached it before.
    pub target: u16,
    /// What is spoken on it.
    pub protocol: Protocol,
}

/// What a port speaks, decided at admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1 and, where a connection opens with its preface, HTTP/2: requests are counted and timed.
    Http,
    /// Bytes, passed on untouched: connections and bytes are counted.
    Tcp,
}

impl Protocol {
    /// Whether requests are seen on it.
    pub const fn is_http(self) -> bool {
        matches!(self, Self::Http)
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
    #[error(
        "inbound {name:?}: {field} port {port} is not usable: 1-65535 except the admin port {}",
        crate::names::ADMIN_PORT
    )]
    BadPort {
        /// Name of the port taken over.
        name: String,
        /// Which of its two ports.
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
        let mut seen = std::collections::BTreeSet::new();
        for inbound in &self.inbound {
            for (field, port) in [("listen", inbound.listen), ("target", inbound.target)] {
                if port == 0 || port == crate::names::ADMIN_PORT {
                    return Err(ConfigError::BadPort { name: inbound.name.clone(), field, port });
                }
            }
            if !seen.insert(inbound.listen) {
                return Err(ConfigError::DuplicateListen(inbound.listen));
            }
        }
        Ok(())
    }
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
