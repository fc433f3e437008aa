//! What the proxy runs by now, as the admin server tells it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use outrigger_api::config::SidecarConfig;
use outrigger_api::metrics::AppMetrics;
use outrigger_api::probe::Probe;
use outrigger_api::tap::TapSpec;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use serde::Serialize;

use crate::config::Loaded;
use crate::secrets::{Certificate, Credentials, Served};

/// The config in force and, where the file holds one that was refused, why. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Live(Arc<Mutex<Running>>);

/// As `/config` shows it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Running {
    /// What is in force.
    pub(crate) config: SidecarConfig,
    /// Of the document.
    hash: String,
    since: Timestamp,
    ignored_fields: Vec<String>,
    /// Of Secrets.
    #[serde(flatten)]
    served: Served,
    /// Why the document that is in the file now is not in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<Refused>,
}

#[derive(Clone, Debug, Serialize)]
struct Refused {
    at: Timestamp,
    error: String,
}

impl Live {
    pub(crate) fn new(loaded: &Loaded, served: Served) -> Self {
        Self(Arc::new(Mutex::new(Running::by(loaded, served))))
    }

    /// Another config is in force.
    pub(crate) fn replace(&self, loaded: &Loaded, served: Served) {
        *self.lock() = Running::by(loaded, served);
    }

    /// What is served of Secrets has changed.
    pub(crate) fn set_served(&self, served: Served) {
        self.lock().served = served;
    }

    /// The file's new document is not used. Returns whether that, or its cause, is new.
    pub(crate) fn refuse(&self, error: String) -> bool {
        let refused = &mut self.lock().refused;
        let new = refused.as_ref().is_none_or(|known| known.error != error);
        if new {
            *refused = Some(Refused { at: Timestamp::now(), error });
        }
        new
    }

    /// The file holds the document in force, perhaps again.
    pub(crate) fn confirm(&self) {
        self.lock().refused = None;
    }

    /// What is in force now, without the token.
    pub(crate) fn running(&self) -> Running {
        let mut running = self.lock().clone();
        "(redacted)".clone_into(&mut running.config.token);
        running
    }

    /// A probe of the config in force, by its container and the last segment of its path.
    pub(crate) fn probe(&self, container: &str, kind: &str) -> Option<Probe> {
        let is_it = |probe: &&Probe| probe.container == container && probe.kind.segment() == kind;
        self.lock().config.probes.iter().find(is_it).cloned()
    }

    /// Where the app has metrics of its own, where they are passed on.
    pub(crate) fn app_metrics(&self) -> Option<AppMetrics> {
        self.lock().config.app_metrics.clone()
    }

    /// Whether, and how fast, requests may be told live now.
    pub(crate) fn tap(&self) -> TapSpec {
        self.lock().config.tap
    }

    pub(crate) fn with_token<T>(&self, check: impl FnOnce(&str) -> T) -> T {
        check(&self.lock().config.token)
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        // Each change is one assignment: a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    fn by(loaded: &Loaded, served: Served) -> Self {
        Self {
            config: loaded.config.clone(),
            hash: loaded.hash(),
            since: Timestamp::now(),
            ignored_fields: loaded.ignored.clone(),
            served,
            refused: None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct ConfigCollector(pub(crate) Live);

impl Collector for ConfigCollector {
    #[allow(clippy::cast_precision_loss)] // seconds since 1970 are far below 2^52
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let running = self.0.running();
        let taken = ConstGauge::new(u64::from(running.refused.is_none()));
        let (name, help) = (
            "config_last_reload_success",
            "1 if the document in the config's file is in force, 0 if it was refused",
        );
        taken.encode(encoder.encode_descriptor(name, help, None, taken.metric_type())?)?;
        let since = ConstGauge::new(running.since.as_millisecond() as f64 / 1000.0);
        let (name, help) = (
            "config_last_reload_timestamp_seconds",
            "When the config in force was taken, since the Unix epoch",
        );
        since.encode(encoder.encode_descriptor(name, help, None, since.metric_type())?)?;
        let help = "Hash of the config in force: pods with the same one run by the same";
        let mut info = encoder.encode_descriptor("config_info", help, None, MetricType::Gauge)?;
        ConstGauge::new(1).encode(info.encode_family(&[("hash", running.hash.as_str())])?)?;
        certificates(&mut encoder, &running.served.certificates)?;
        credentials(&mut encoder, &running.served.credentials)
    }
}

fn certificates(encoder: &mut DescriptorEncoder, served: &[Certificate]) -> Result<(), std::fmt::Error> {
    let (name, help) = (
        "tls_certificate_expiry_timestamp_seconds",
        "When a certificate that is served, shown or trusted ends, since the Unix epoch",
    );
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for Certificate { at, secret, not_after, .. } in served {
        let [direction, name] = at.labels();
        let labels = [direction, name, ("secret", secret)];
        ConstGauge::new(*not_after).encode(family.encode_family(&labels)?)?;
    }
    let (name, help) = (
        "tls_certificate_last_reload_success",
        "1 if what a port's Secrets hold is in force, 0 if it was refused",
    );
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for Certificate { at, secret, refused, .. } in served {
        let [direction, name] = at.labels();
        let labels = [direction, name, ("secret", secret)];
        ConstGauge::new(u64::from(refused.is_none())).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn credentials(encoder: &mut DescriptorEncoder, served: &[Credentials]) -> Result<(), std::fmt::Error> {
    let (name, help) = (
        "auth_keys_last_reload_success",
        "1 if the keys that a port's Secrets hold are in force, 0 if they were refused",
    );
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for Credentials { port, refused, .. } in served {
        let labels = [("direction", "inbound"), ("port", port)];
        ConstGauge::new(u64::from(refused.is_none())).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
