//! Keeps the certificate: in a Secret that all replicas share, and its authority in the webhook configuration.
//!
//! Level-triggered: each pass reads both objects, makes at most one change, and starts again; what a pass without a
//! change has seen is consistent. Two replicas never fight, because every write carries the `resourceVersion` that was
//! read: the slower one gets a 409, reads again and uses what the faster one wrote. A lease would be the alternative;
//! it would add an object, rights and a wait to guard a write every few weeks.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams};
use outrigger_runtime::readiness::Condition;
use outrigger_runtime::shutdown::Shutdown;
use serde_json::json;

use crate::certificate::{CertificateError, Material, Need, Policy};
use crate::lookup::why;
use crate::metrics::Metrics;
use crate::secret::{Store, StoreError};
use crate::served::Served;
use crate::x509::{X509Error, since_epoch, verify};

/// How often both objects are read at the least: somebody may have edited them, or another replica renewed.
const INTERVAL: Duration = Duration::from_secs(30);
/// First and longest wait after a failure.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How long it may take to settle, all passes: an API server that does not answer must not stop the loop for ever.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(20);
/// Passes until one finds nothing to do. Two suffice without another replica, four with one.
const MAX_PASSES: usize = 10;
/// Who we are in the configuration's `managedFields`.
const FIELD_MANAGER: &str = "outrigger-webhook";

/// Why the certificate is not in order.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The object should have come with the chart.
    #[error("failed to find {kind} {name}: the chart creates it, so `helm upgrade` brings it back")]
    Gone {
        /// Kind of the object.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// Somebody took them out: no API server calls us.
    #[error("mutatingwebhookconfiguration {0} has no webhooks: `helm upgrade` brings them back")]
    NoEntries(String),
    /// The API server refused, or could not be reached.
    #[error("failed to {verb} {kind} {name}: {why}")]
    Api {
        /// `read` or `write`.
        verb: &'static str,
        /// Kind of the object.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What the API server says, or the connection.
        why: String,
    },
    /// The certificate can't be made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The certificate would be refused, though the bundle is written: the clock, mostly.
    #[error(transparent)]
    X509(#[from] X509Error),
    /// Somebody else changes the objects as fast as we do.
    #[error(
        "failed to settle certificate: somebody else kept changing the secret or the webhook configuration"
    )]
    Contended,
    /// The API server did not answer.
    #[error("failed to settle certificate: the API server did not answer in time")]
    Timeout,
}

/// What the loop works on.
pub struct Rotation {
    /// The Secret. The chart creates it empty, so that it goes with the release and we need no right to create.
    pub secret: Store,
    /// Webhook configurations.
    pub configurations: Api<MutatingWebhookConfiguration>,
    /// Name of the `MutatingWebhookConfiguration`.
    pub configuration: String,
    /// What the certificate must be.
    pub policy: Policy,
    /// Where the certificate is served from.
    pub served: Served,
    /// Holds while an API server would accept the certificate.
    pub accepted: Condition,
    /// Where it counts.
    pub metrics: Metrics,
}

impl Rotation {
    /// Runs until `stop`, and does not finish the step it is in: each leaves what another replica can go on from. One
    /// that is about to go must not renew by flags that its successors no longer have.
    pub async fn run(self, stop: Shutdown) {
        tokio::select! {
            biased;
            () = stop.requested() => {}
            () = self.keep() => {}
        }
    }

    async fn keep(&self) {
        let mut expiry = SystemTime::UNIX_EPOCH;
        let mut backoff = BACKOFF.0;
        loop {
            let settled = tokio::time::timeout(SETTLE_TIMEOUT, self.settle(SystemTime::now)).await;
            let wait = match settled.unwrap_or(Err(RotationError::Timeout)) {
                Ok(settled) => {
                    expiry = settled.expiry;
                    backoff = BACKOFF.0;
                    let due = settled.due.duration_since(SystemTime::now()).unwrap_or_default();
                    due.clamp(Duration::from_secs(1), INTERVAL)
                }
                Err(error) => {
                    self.metrics.certificate_failures.inc();
                    tracing::warn!(%error, retry_in = ?backoff, "certificate is not in order");
                    let wait = backoff;
                    backoff = (backoff * 2).min(BACKOFF.1);
                    wait
                }
            };
            // An API server that we can't reach may still call us, so a failure alone does not end readiness.
            if SystemTime::now() >= expiry {
                self.accepted.set(false);
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Changes the Secret and the configuration until nothing is left to do, then serves the certificate.
    pub async fn settle(&self, clock: impl Fn() -> SystemTime) -> Result<Settled, RotationError> {
        for _ in 0..MAX_PASSES {
            if let Some(settled) = self.pass(clock()).await? {
                return Ok(settled);
            }
        }
        Err(RotationError::Contended)
    }

    /// One pass; none if it changed something, or lost to somebody who did.
    async fn pass(&self, now: SystemTime) -> Result<Option<Settled>, RotationError> {
        let secret = self.secret.read().await.map_err(|e| self.secret_failed("read", e))?;
        let material = match Material::parse(secret.data.as_ref().unwrap_or(&BTreeMap::new())) {
            Ok(material) => material,
            Err(why) => {
                tracing::info!(secret = self.secret.name, %why, "making a new certificate authority");
                return self.write(secret, &Material::create(&self.policy, now)?).await;
            }
        };
        let configuration = self.configurations.get(&self.configuration).await;
        let configuration = configuration.map_err(|e| self.configuration_failed("read", &e))?;
        self.judge(&configuration, now);
        let present = bundles(&configuration);
        if present.is_empty() {
            return Err(RotationError::NoEntries(self.configuration.clone()));
        }
        let bundle = material.bundle_over(&present, now);
        if let Some(patch) = bundle_patch(&configuration, &bundle) {
            return self.patch(&configuration, patch).await;
        }
        match material.need(&bundle, &self.policy, now) {
            Need::NothingUntil(due) => {
                // Before it is served; the bundle is what stands in every entry.
                material.verify(&bundle, &self.policy.name, now)?;
                self.serve(&material)?;
                self.judge(&configuration, now);
                Ok(Some(Settled { due, expiry: material.expiry() }))
            }
            need => {
                tracing::info!(secret = self.secret.name, what = ?need, "renewing");
                self.write(secret, &material.renewed(need, &self.policy, now)?).await
            }
        }
    }

    async fn write(&self, mut secret: Secret, material: &Material) -> Result<Option<Settled>, RotationError> {
        secret.data.get_or_insert_default().extend(material.data());
        match self.secret.replace(&secret).await {
            Ok(()) => Ok(None),
            Err(StoreError::Api(kube::Error::Api(status))) if status.code == 409 => Ok(None),
            Err(error) => Err(self.secret_failed("write", error)),
        }
    }

    async fn patch(
        &self,
        read: &MutatingWebhookConfiguration,
        patch: json_patch::Patch,
    ) -> Result<Option<Settled>, RotationError> {
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        let patch = Patch::<()>::Json(patch);
        match self.configurations.patch(&self.configuration, &params, &patch).await {
            Ok(_) => {
                self.metrics.ca_bundle_patches.inc();
                tracing::info!(configuration = self.configuration, "wrote the caBundle");
                Ok(None)
            }
            // Somebody was faster. A failed `test` gives a 422, but so does a patch that will never be allowed.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
            Err(kube::Error::Api(status)) if status.code == 422 && self.has_changed(read).await? => Ok(None),
            Err(error) => Err(self.configuration_failed("write", &error)),
        }
    }

    async fn has_changed(&self, read: &MutatingWebhookConfiguration) -> Result<bool, RotationError> {
        let now = self.configurations.get(&self.configuration).await;
        let now = now.map_err(|e| self.configuration_failed("read", &e))?;
        Ok(now.metadata.resource_version != read.metadata.resource_version)
    }

    fn serve(&self, material: &Material) -> Result<(), RotationError> {
        let certificate = material.certified_key()?;
        if self.served.certificate().as_deref() != certificate.cert.first().map(AsRef::as_ref) {
            let expiry = since_epoch(material.expiry()).as_secs();
            tracing::info!(name = self.policy.name, expiry, "serving a new certificate");
            self.metrics.certificate_expiry.set(i64::try_from(expiry).unwrap_or(i64::MAX));
            self.served.replace(certificate);
        }
        Ok(())
    }

    /// Ready only if an API server that goes by this configuration would accept what we serve.
    fn judge(&self, configuration: &MutatingWebhookConfiguration, now: SystemTime) {
        let accepts = |bundle: &ByteString| {
            let served = self.served.certificate()?;
            verify(&served.into(), &bundle.0, &self.policy.name, now).ok()
        };
        let bundles = bundles(configuration);
        self.accepted.set(!bundles.is_empty() && bundles.iter().all(|bundle| accepts(bundle).is_some()));
    }

    fn secret_failed(&self, verb: &'static str, error: StoreError) -> RotationError {
        match error {
            StoreError::Api(error) => failed(verb, "secret", &self.secret.name, &error),
            StoreError::NoSecret => RotationError::Api {
                verb,
                kind: "secret",
                name: self.secret.name.clone(),
                why: error.to_string(),
            },
        }
    }

    fn configuration_failed(&self, verb: &'static str, error: &kube::Error) -> RotationError {
        failed(verb, "mutatingwebhookconfiguration", &self.configuration, error)
    }
}

fn failed(verb: &'static str, kind: &'static str, name: &str, error: &kube::Error) -> RotationError {
    let name = name.to_owned();
    match error {
        kube::Error::Api(status) if status.code == 404 => RotationError::Gone { kind, name },
        error => RotationError::Api { verb, kind, name, why: why(error) },
    }
}

/// What a pass without a change has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// When something has to be done again.
    pub due: SystemTime,
    /// When the served certificate ends.
    pub expiry: SystemTime,
}

/// The caBundle of each entry, empty where there is none.
fn bundles(configuration: &MutatingWebhookConfiguration) -> Vec<ByteString> {
    let entries = configuration.webhooks.iter().flatten();
    entries.map(|entry| entry.client_config.ca_bundle.clone().unwrap_or_default()).collect()
}

/// What makes `bundle` (PEM) the caBundle of every entry; none where it is that already. Guarded, so that an edit made
/// meanwhile is not patched over at the wrong index.
fn bundle_patch(configuration: &MutatingWebhookConfiguration, bundle: &[u8]) -> Option<json_patch::Patch> {
    let webhooks = configuration.webhooks.iter().flatten().enumerate();
    let outdated = webhooks
        .filter(|(_, webhook)| webhook.client_config.ca_bundle.as_ref().is_none_or(|have| have.0 != bundle));
    let value = ByteString(bundle.to_vec());
    let mut operations: Vec<_> = outdated
        .map(|(i, _)| {
            let path = format!("/webhooks/{i}/clientConfig/caBundle");
            json!({"op": "add", "path": path, "value": value})
        })
        .collect();
    if operations.is_empty() {
        return None;
    }
    let version = &configuration.metadata.resource_version;
    operations.insert(0, json!({"op": "test", "path": "/metadata/resourceVersion", "value": version}));
    Some(serde_json::from_value(operations.into()).expect("these are well-formed operations"))
}
