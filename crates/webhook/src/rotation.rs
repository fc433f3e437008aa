//! Keeps the certificate: in a Secret that all replicas share, and its authority in the webhook configuration.
//!
//! Level-triggered: each pass reads both objects, makes at most one change, and starts again; what a pass without a
//! change has seen is consistent. Two replicas never fight, because every write carries the `resourceVersion` that was
//! read: the slower one gets a 409, reads again and uses what the faster one wrote. A lease would be the alternative;
//! it would add an object, rights and a wait to guard a write every few weeks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::Secret;
use outrigger_runtime::shutdown::Shutdown;

use crate::certificate::{Material, Need, Policy};
pub use crate::registration::RotationError;
use crate::registration::{Registration, bundle_patch, bundles};
use crate::secret::{Store, StoreError};

/// How often both objects are read at the least: somebody may have edited them, or another replica renewed.
const INTERVAL: Duration = Duration::from_secs(30);
/// First and longest wait after a failure.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How long it may take to settle, all passes: an API server that does not answer must not stop the loop for ever.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(20);
/// Passes until one finds nothing to do. Two suffice without another replica, four with one.
const MAX_PASSES: usize = 10;

/// What the loop works on.
pub struct Rotation {
    /// The Secret. The chart creates it empty, so that it goes with the release.
    pub secret: Store,
    /// Where its authority has to stand.
    pub registration: Registration,
    /// What the certificate must be.
    pub policy: Policy,
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
        let mut backoff = BACKOFF.0;
        loop {
            let settled = tokio::time::timeout(SETTLE_TIMEOUT, self.settle(SystemTime::now)).await;
            let wait = match settled.unwrap_or(Err(RotationError::Timeout)) {
                Ok(settled) => {
                    backoff = BACKOFF.0;
                    let due = settled.due.duration_since(SystemTime::now()).unwrap_or_default();
                    due.clamp(Duration::from_secs(1), INTERVAL)
                }
                Err(error) => {
                    self.registration.failed(&error, backoff);
                    let wait = backoff;
                    backoff = (backoff * 2).min(BACKOFF.1);
                    wait
                }
            };
            self.registration.end_with_the_certificate(SystemTime::now());
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
        let secret = match self.secret.read().await {
            Err(StoreError::Api(kube::Error::Api(status))) if status.code == 404 => {
                tracing::warn!(secret = self.secret.name, "the secret is gone: making it again");
                let made = self.secret.create().await;
                return made
                    .map(|()| None)
                    .map_err(|e| RotationError::secret("create", &self.secret.name, e));
            }
            read => read.map_err(|e| RotationError::secret("read", &self.secret.name, e))?,
        };
        let material = match Material::parse(secret.data.as_ref().unwrap_or(&BTreeMap::new())) {
            Ok(material) => material,
            Err(why) => {
                tracing::info!(secret = self.secret.name, %why, "making a new certificate authority");
                return self.write(secret, &Material::create(&self.policy, now)?).await;
            }
        };
        let configuration = self.registration.read().await?;
        self.registration.judge(&configuration, now);
        let present = bundles(&configuration);
        if present.is_empty() {
            return Err(RotationError::NoEntries(self.registration.name.clone()));
        }
        let bundle = material.bundle_over(&present, now);
        if let Some(patch) = bundle_patch(&configuration, &bundle) {
            self.registration.patch(&configuration, patch).await?;
            return Ok(None);
        }
        match material.need(&bundle, &self.policy, now) {
            Need::NothingUntil(due) => {
                // Before it is served; the bundle is what stands in every entry.
                material.verify(&bundle, &self.policy.name, now)?;
                self.registration.serve(&Arc::new(material.certified_key()?));
                self.registration.judge(&configuration, now);
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
            Err(error) => Err(RotationError::secret("write", &self.secret.name, error)),
        }
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
