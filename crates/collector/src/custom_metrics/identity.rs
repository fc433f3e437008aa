//! The certificate that API servers find here, and how they come to trust it.
//!
//! It signs itself and lives in memory: nobody else ever needs its key, so there is no Secret to write and no right to write one. A new
//! process has a new one and tells it to API servers before it is ready.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::http::Request;
use axum::http::header::CONTENT_TYPE;
use base64::Engine as _;
use kube::Client;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use super::{GROUP, VERSION};

/// How long a certificate is valid, and how long it is served.
const LIFETIME: Duration = Duration::from_hours(90 * 24);
const SERVED: Duration = Duration::from_hours(60 * 24);
/// It begins this much before it is made, for API servers whose clocks are behind ours.
const BACKDATE: Duration = Duration::from_mins(5);

/// Why API servers can't be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// The API server refused, or could not be reached.
    #[error("failed to {verb} apiservice {VERSION}.{GROUP}: {error}")]
    Api {
        /// `read` or `write`.
        verb: &'static str,
        /// What it says.
        error: kube::Error,
    },
    /// Somebody else serves the group.
    #[error("apiservice {VERSION}.{GROUP} is {owner}'s and not {own}'s: one of the two must go")]
    Foreign {
        /// The Service that it names, as `namespace/name`.
        owner: String,
        /// Ours.
        own: String,
    },
    /// Generation failed.
    #[error("failed to make certificate")]
    Generate(#[from] rcgen::Error),
}

/// A certificate and its key.
pub(crate) struct Identity {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
    pem: String,
    made: Instant,
}

/// The Service by which API servers find us.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    /// Of the release.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
}

impl Identity {
    /// For the name by which API servers call the Service.
    pub(crate) fn create(service: &Service) -> Result<Self, IdentityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![format!("{}.{}.svc", service.name, service.namespace)])?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let now = SystemTime::now();
        (params.not_before, params.not_after) = ((now - BACKDATE).into(), (now + LIFETIME).into());
        let certificate = params.self_signed(&key)?;
        let pem = certificate.pem();
        Ok(Self {
            certificate: certificate.into(),
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            pem,
            made: Instant::now(),
        })
    }

    /// Whether it is time for another.
    pub(crate) fn is_old(&self) -> bool {
        self.made.elapsed() >= SERVED
    }

    /// Makes sure that API servers trust it: it stands in the `APIService`, whoever took it out.
    pub(crate) async fn register(&self, client: &Client, service: &Service) -> Result<(), IdentityError> {
        let url = format!("/apis/apiregistration.k8s.io/v1/apiservices/{VERSION}.{GROUP}");
        let api = |verb| move |error| IdentityError::Api { verb, error };
        let get = Request::get(&url).body(Vec::new()).map_err(kube::Error::HttpError).map_err(api("read"))?;
        let found: Value = client.request(get).await.map_err(api("read"))?;
        let spec = &found["spec"];
        let named = |field: &str| spec["service"][field].as_str().unwrap_or_default();
        let (owner, own) = (
            format!("{}/{}", named("namespace"), named("name")),
            format!("{}/{}", service.namespace, service.name),
        );
        if owner != own {
            return Err(IdentityError::Foreign { owner, own });
        }
        let bundle = base64::engine::general_purpose::STANDARD.encode(&self.pem);
        if spec["caBundle"] == bundle.as_str() {
            return Ok(());
        }
        let change = json!({"spec": {"caBundle": bundle}}).to_string().into_bytes();
        let patch = Request::patch(&url).header(CONTENT_TYPE, "application/merge-patch+json").body(change);
        let patch = patch.map_err(kube::Error::HttpError).map_err(api("write"))?;
        client.request::<Value>(patch).await.map_err(api("write"))?;
        tracing::info!("API servers were told the certificate of custom metrics");
        Ok(())
    }
}

impl Service {
    /// From `namespace/name`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (namespace, name) = text.split_once('/')?;
        Some(Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

/// The cryptography: ring, passed rather than taken from the process-wide default.
pub(crate) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
