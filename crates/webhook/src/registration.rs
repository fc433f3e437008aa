//! Our webhook configuration: which authorities API servers trust, and whether they would accept what we serve.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::api::{Api, Patch, PatchParams};
use outrigger_runtime::readiness::Condition;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use serde_json::json;

use crate::certificate::CertificateError;
use crate::lookup::why;
use crate::metrics::Metrics;
use crate::secret::StoreError;
use crate::served::Served;
use crate::x509::{X509Error, since_epoch, validity, verify_chain};

/// Who we are in `managedFields`.
pub(crate) const FIELD_MANAGER: &str = "outrigger-webhook";

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
    /// Somebody else should have made it.
    #[error("failed to find secret {0}: with --tls-mode secret somebody else makes it, cert-manager or you")]
    NotProvided(String),
    /// Somebody took them out: no API server calls us.
    #[error("mutatingwebhookconfiguration {0} has no webhooks: `helm upgrade` brings them back")]
    NoEntries(String),
    /// The API server refused, or could not be reached.
    #[error("failed to {verb} {kind} {name}: {why}")]
    Api {
        /// `read`, `write` or `create`.
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

impl RotationError {
    pub(crate) fn secret(verb: &'static str, name: &str, error: StoreError) -> Self {
        match error {
            StoreError::Api(error) => failed(verb, "secret", name, &error),
            StoreError::NoSecret => {
                Self::Api { verb, kind: "secret", name: name.to_owned(), why: error.to_string() }
            }
        }
    }
}

/// The configuration and what it says of us.
#[derive(Clone)]
pub struct Registration {
    /// Webhook configurations.
    pub api: Api<MutatingWebhookConfiguration>,
    /// Name of ours.
    pub name: String,
    /// The name that API servers check: `<service>.<namespace>.svc`.
    pub server_name: String,
    /// Where the certificate is served from.
    pub served: Served,
    /// Holds while an API server would accept the certificate.
    pub accepted: Condition,
    /// Where it counts.
    pub metrics: Metrics,
}

impl Registration {
    pub(crate) async fn read(&self) -> Result<MutatingWebhookConfiguration, RotationError> {
        self.api.get(&self.name).await.map_err(|error| self.failure("read", &error))
    }

    /// Changes it; false where somebody else was faster.
    pub(crate) async fn patch(
        &self,
        read: &MutatingWebhookConfiguration,
        patch: json_patch::Patch,
    ) -> Result<bool, RotationError> {
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        match self.api.patch(&self.name, &params, &Patch::Json::<()>(patch)).await {
            Ok(_) => {
                self.metrics.ca_bundle_patches.inc();
                tracing::info!(configuration = self.name, "wrote the caBundle");
                Ok(true)
            }
            // A failed `test` gives a 422, but so does a patch that will never be allowed.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(kube::Error::Api(status)) if status.code == 422 && self.has_changed(read).await? => Ok(false),
            Err(error) => Err(self.failure("write", &error)),
        }
    }

    async fn has_changed(&self, read: &MutatingWebhookConfiguration) -> Result<bool, RotationError> {
        Ok(self.read().await?.metadata.resource_version != read.metadata.resource_version)
    }

    /// Serves it from the next handshake on, unless it is served already.
    pub(crate) fn serve(&self, certificate: &Arc<CertifiedKey>) {
        if self.serves(certificate) {
            return;
        }
        let end = certificate.cert.first().and_then(validity).map_or(SystemTime::UNIX_EPOCH, |(_, end)| end);
        let expiry = since_epoch(end).as_secs();
        tracing::info!(name = self.server_name, expiry, "serving a new certificate");
        self.metrics.certificate_expiry.set(i64::try_from(expiry).unwrap_or(i64::MAX));
        self.served.replace(Arc::clone(certificate));
    }

    pub(crate) fn serves(&self, certificate: &CertifiedKey) -> bool {
        self.served.chain().is_some_and(|chain| chain == certificate.cert)
    }

    /// Whether an API server that goes by this configuration would accept the certificate, with its intermediates.
    pub(crate) fn accepts(
        &self,
        configuration: &MutatingWebhookConfiguration,
        chain: &[CertificateDer<'_>],
        now: SystemTime,
    ) -> bool {
        let accepts = |bundle: &ByteString| verify_chain(chain, &bundle.0, &self.server_name, now).is_ok();
        let bundles = bundles(configuration);
        !bundles.is_empty() && bundles.iter().all(accepts)
    }

    /// The same for what is served now.
    pub(crate) fn accepts_served(
        &self,
        configuration: &MutatingWebhookConfiguration,
        now: SystemTime,
    ) -> bool {
        self.served.chain().is_some_and(|chain| self.accepts(configuration, &chain, now))
    }

    /// Ready only if an API server that goes by this configuration would accept what we serve.
    pub(crate) fn judge(&self, configuration: &MutatingWebhookConfiguration, now: SystemTime) {
        self.accepted.set(self.accepts_served(configuration, now));
    }

    /// An API server that we can't reach may still call us, so a failure alone does not end readiness. The certificate's end does.
    pub(crate) fn end_with_the_certificate(&self, now: SystemTime) {
        let end = |chain: Vec<CertificateDer<'_>>| chain.first().and_then(validity).map(|(_, end)| end);
        if self.served.chain().and_then(end).is_none_or(|end| now >= end) {
            self.accepted.set(false);
        }
    }

    /// Counts and logs a failure.
    pub(crate) fn failed(&self, error: &RotationError, retry_in: Duration) {
        self.metrics.certificate_failures.inc();
        tracing::warn!(%error, ?retry_in, "certificate is not in order");
    }

    fn failure(&self, verb: &'static str, error: &kube::Error) -> RotationError {
        failed(verb, "mutatingwebhookconfiguration", &self.name, error)
    }
}

fn failed(verb: &'static str, kind: &'static str, name: &str, error: &kube::Error) -> RotationError {
    let name = name.to_owned();
    match error {
        kube::Error::Api(status) if status.code == 404 => RotationError::Gone { kind, name },
        error => RotationError::Api { verb, kind, name, why: why(error) },
    }
}

/// The caBundle of each entry, empty where there is none.
pub(crate) fn bundles(configuration: &MutatingWebhookConfiguration) -> Vec<ByteString> {
    let entries = configuration.webhooks.iter().flatten();
    entries.map(|entry| entry.client_config.ca_bundle.clone().unwrap_or_default()).collect()
}

/// What makes `bundle` (PEM) the caBundle of every entry; none where it is that already. Guarded, so that an edit made
/// meanwhile is not patched over at the wrong index.
pub(crate) fn bundle_patch(
    configuration: &MutatingWebhookConfiguration,
    bundle: &[u8],
) -> Option<json_patch::Patch> {
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
