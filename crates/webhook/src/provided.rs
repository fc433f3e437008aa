//! The certificate that somebody else keeps in the Secret: cert-manager, or the user.
//!
//! The Secret is read and never written. A watch tells of its changes at once, and tells nothing else: what is in it is read by
//! [`Store`], which keeps keys out of logs. The authority in the Secret goes into the webhook configuration, unless
//! cert-manager sees to that.
//!
//! Where the authority changes, the new one stands beside the old for a while: the other replicas serve the old certificate until they have
//! looked, and API servers hear of a new caBundle by a watch of their own. So the old certificate is served until the new one has been
//! acceptable for [`Provided::settles`]. Level-triggered, as [`crate::rotation`], and with the same guard against two replicas at once.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use outrigger_runtime::shutdown::Shutdown;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::certificate::{CertificateError, bundle};
use crate::registration::{Registration, RotationError, bundle_patch, bundles};
use crate::secret::{Store, StoreError};
use crate::x509::{certificates, provider, validity, verify_chain};

/// How often both objects are read at the least.
const INTERVAL: Duration = Duration::from_secs(30);
/// How soon again while the old certificate is served and the new one is there.
const PENDING: Duration = Duration::from_secs(1);
/// First and longest wait after a failure.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How long one look may take.
const TIMEOUT: Duration = Duration::from_secs(20);
/// How long the authorities that stood in the caBundle stay beside a new one: four looks of another replica.
const OVERLAP: Duration = Duration::from_mins(2);
/// Annotations of a configuration whose caBundle others keep: cert-manager's injector, and whoever gave one to the chart.
/// <https://cert-manager.io/docs/concepts/ca-injector/>
const KEEPERS: [&str; 4] = [
    "outrigger.dev/ca-bundle",
    "cert-manager.io/inject-ca-from",
    "cert-manager.io/inject-ca-from-secret",
    "cert-manager.io/inject-apiserver-ca",
];

/// What the loop works on.
pub struct Provided {
    /// The Secret.
    pub secret: Store,
    /// Where its authority has to stand.
    pub registration: Registration,
    /// How long API servers are given to hear of a new caBundle.
    pub settles: Duration,
}

/// What the Secret holds.
struct Material {
    key: Arc<CertifiedKey>,
    authorities: Vec<CertificateDer<'static>>,
}

/// What one look leaves for the next.
#[derive(Default)]
pub struct Memory {
    /// The certificate in the Secret, since when it is there, and since when it would be accepted.
    seen: Option<(Vec<u8>, Instant, Option<Instant>)>,
}

impl Provided {
    /// Runs until `stop`.
    pub async fn run(self, client: Client, namespace: String, stop: Shutdown) {
        let changed = Notify::new();
        tokio::select! {
            biased;
            () = stop.requested() => {}
            () = self.keep(&changed) => {}
            () = watch(client, &namespace, &self.secret.name, &changed) => {}
        }
    }

    async fn keep(&self, changed: &Notify) {
        let (mut memory, mut backoff) = (Memory::default(), BACKOFF.0);
        loop {
            let look = self.look(&mut memory, SystemTime::now(), Instant::now());
            let looked = tokio::time::timeout(TIMEOUT, look).await.unwrap_or(Err(RotationError::Timeout));
            let wait = match looked {
                Ok(wait) => {
                    backoff = BACKOFF.0;
                    wait
                }
                Err(error) => {
                    self.registration.failed(&error, backoff);
                    let wait = backoff;
                    backoff = (backoff * 2).min(BACKOFF.1);
                    wait
                }
            };
            self.registration.end_with_the_certificate(SystemTime::now());
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = changed.notified() => {}
            }
        }
    }

    /// Brings the configuration in order and serves what is accepted. Returns when to look again.
    ///
    /// The configuration is read first: a replica that saw a newer Secret than we do has changed the configuration after that,
    /// so our write of it fails, or our Secret is as new.
    pub async fn look(
        &self,
        memory: &mut Memory,
        now: SystemTime,
        at: Instant,
    ) -> Result<Duration, RotationError> {
        let mut configuration = self.registration.read().await?;
        self.registration.judge(&configuration, now);
        if bundles(&configuration).is_empty() {
            return Err(RotationError::NoEntries(self.registration.name.clone()));
        }
        let material = self.read().await?;
        let leaf = material.key.cert.first().map(|leaf| leaf.to_vec()).unwrap_or_default();
        let (_, since, accepted_since) =
            memory.seen.take_if(|(seen, ..)| *seen == leaf).unwrap_or_else(|| (leaf.clone(), at, None));
        let overlaps = at.duration_since(since) < OVERLAP;
        if let Some(patch) = material.bundle_patch(&configuration, overlaps, now)
            && self.registration.patch(&configuration, patch).await?
        {
            configuration = self.registration.read().await?;
        }
        let accepted_since = self
            .registration
            .accepts(&configuration, &material.key.cert, now)
            .then(|| accepted_since.unwrap_or(at));
        memory.seen = Some((leaf, since, accepted_since));

        let settled = accepted_since.is_some_and(|since| at.duration_since(since) >= self.settles);
        let old_will_do = self.registration.accepts_served(&configuration, now);
        let waits = !settled && old_will_do && !self.registration.serves(&material.key);
        if !waits {
            self.registration.serve(&material.key);
        }
        self.registration.judge(&configuration, now);
        if !waits {
            // The reason why it would be refused, where it would.
            for bundle in bundles(&configuration) {
                verify_chain(&material.key.cert, &bundle.0, &self.registration.server_name, now)?;
            }
        }
        Ok(if waits { PENDING.min(self.settles) } else { INTERVAL })
    }

    async fn read(&self) -> Result<Material, RotationError> {
        let secret = self.secret.read().await.map_err(|error| match error {
            StoreError::Api(kube::Error::Api(status)) if status.code == 404 => {
                RotationError::NotProvided(self.secret.name.clone())
            }
            error => RotationError::secret("read", &self.secret.name, error),
        })?;
        Ok(Material::parse(&secret.data.unwrap_or_default())?)
    }
}

impl Material {
    fn parse(data: &BTreeMap<String, ByteString>) -> Result<Self, CertificateError> {
        let text = |key| data.get(key).map(|value| value.0.as_slice());
        let chain = text("tls.crt").ok_or(CertificateError::Missing("tls.crt"))?;
        let chain =
            certificates(chain).filter(|chain| chain.first().is_some_and(|leaf| validity(leaf).is_some()));
        let chain = chain.ok_or(CertificateError::Malformed("tls.crt"))?;
        let key = text("tls.key").ok_or(CertificateError::Missing("tls.key"))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| CertificateError::Malformed("tls.key"))?;
        let key = CertifiedKey::from_der(chain, key, &provider())
            .map_err(|_| CertificateError::KeyMismatch { key: "tls.key", certificate: "tls.crt" })?;
        // Without an authority of its own, the certificate is from one that the caBundle is not ours to name.
        let authorities = match text("ca.crt").filter(|text| !text.is_empty()) {
            Some(text) => certificates(text).ok_or(CertificateError::Malformed("ca.crt"))?,
            None => Vec::new(),
        };
        Ok(Self { key: Arc::new(key), authorities })
    }

    /// What puts our authorities into the configuration, and for the time of the overlap leaves the valid ones there.
    fn bundle_patch(
        &self,
        configuration: &MutatingWebhookConfiguration,
        overlaps: bool,
        now: SystemTime,
    ) -> Option<json_patch::Patch> {
        let kept_by_another = KEEPERS.iter().any(|key| configuration.annotations().contains_key(*key));
        if kept_by_another || self.authorities.is_empty() {
            return None;
        }
        let mut authorities = self.authorities.clone();
        if overlaps {
            for found in
                bundles(configuration).iter().flat_map(|pem| certificates(&pem.0).unwrap_or_default())
            {
                if !authorities.contains(&found) && validity(&found).is_some_and(|(_, end)| end > now) {
                    authorities.push(found);
                }
            }
        }
        bundle_patch(configuration, &bundle(&authorities))
    }
}

/// Tells of each change of the Secret, of its metadata alone, for ever.
async fn watch(client: Client, namespace: &str, name: &str, changed: &Notify) {
    let api: Api<PartialObjectMeta<Secret>> = Api::namespaced(client, namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = pin!(watcher(api, config).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(_) => changed.notify_one(),
            // It starts again by itself, and the Secret is read every 30 s all the same.
            Err(error) => tracing::debug!(%error, secret = name, "watch failed and starts again"),
        }
    }
}
