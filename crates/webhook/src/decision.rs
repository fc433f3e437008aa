//! One pod: what the caches and, where they are behind, the API server say about it, and what `inject` makes of that.

use outrigger_api::{Reason, names};
use outrigger_inject::{Context, Namespace, Outcome, inject, profile_name};
use rustls::crypto::SecureRandom;
use serde_json::Value;

use crate::known::{Caches, Known};
use crate::lookup::{Lookup, LookupError};

/// The code of a pod that was injected, where the others have their reason.
pub(crate) const INJECTED: &str = "Injected";

/// Why there is no decision. The API server then goes by the webhook's failure policy.
#[derive(Debug, thiserror::Error)]
pub enum DecisionError {
    /// A question to the API server failed.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// The API server calls us for a namespace that it says is not there.
    #[error("failed to find namespace {0}: the admission review names it")]
    NamespaceNotFound(String),
    /// The kernel gave no randomness.
    #[error("failed to draw token: the system has no randomness")]
    NoRandomness,
}

/// Decides about pods.
pub struct Decider {
    /// What the watches say.
    pub known: Known,
    /// What to do where they are behind.
    pub lookup: Lookup,
    /// Namespace whose profiles serve all.
    pub release_namespace: String,
    /// For the tokens.
    pub random: &'static dyn SecureRandom,
}

impl Decider {
    /// Decides about `pod`, created in `namespace`.
    ///
    /// The caches are believed unless they contradict the call: the API server calls only for pods that its own,
    /// newer view says are opted in, and a profile that is not there may have been made a moment ago.
    pub async fn decide(&self, pod: &Value, namespace: &str) -> Result<Outcome, DecisionError> {
        let token = self.token()?;
        let outcome = {
            let caches = self.known.read();
            caches.namespaces.get(namespace).map(|namespace| decide(pod, namespace, &caches, &token))
        };
        match outcome {
            Some(outcome) if !contradicts_call(&outcome, pod) && !lacks_profile(&outcome) => Ok(outcome),
            Some(outcome) if lacks_profile(&outcome) => {
                self.with_profile(pod, namespace, &token, outcome).await
            }
            _ => self.with_namespace(pod, namespace, &token).await,
        }
    }

    /// By the namespace as it is now. It is not put into the cache: the watch brings it, in the right order.
    async fn with_namespace(&self, pod: &Value, name: &str, token: &str) -> Result<Outcome, DecisionError> {
        let fresh = if is_object_name(name) { self.lookup.namespace(name).await? } else { None };
        let fresh = fresh.ok_or_else(|| DecisionError::NamespaceNotFound(name.to_owned()))?;
        let outcome = decide(pod, &fresh, &self.known.read(), token);
        if lacks_profile(&outcome) {
            return self.with_fresh_profile(pod, &fresh, token, outcome).await;
        }
        Ok(outcome)
    }

    async fn with_profile(
        &self,
        pod: &Value,
        namespace: &str,
        token: &str,
        refused: Outcome,
    ) -> Result<Outcome, DecisionError> {
        let namespace = self.known.read().namespaces.get(namespace).cloned().unwrap_or_default();
        self.with_fresh_profile(pod, &namespace, token, refused).await
    }

    /// With the profile that the pod names, if there is one by now in the pod's namespace or the release's.
    async fn with_fresh_profile(
        &self,
        pod: &Value,
        namespace: &Namespace,
        token: &str,
        refused: Outcome,
    ) -> Result<Outcome, DecisionError> {
        let name = profile_name(pod, namespace);
        if !is_object_name(name) {
            return Ok(refused);
        }
        for place in [&namespace.name, &self.release_namespace] {
            if let Some(spec) = self.lookup.profile(place, name).await? {
                // A copy with one more: this happens once, then the watch has brought it.
                let (mut profiles, settings) = {
                    let caches = self.known.read();
                    (caches.profiles.clone(), caches.settings.clone())
                };
                profiles.set(place, name, &spec);
                let context = Context { namespace, profiles: &profiles, settings: &settings, token };
                return Ok(inject(pod, &context));
            }
        }
        Ok(refused)
    }

    /// 128 random bits, in hex.
    fn token(&self) -> Result<String, DecisionError> {
        let mut bytes = [0; 16];
        self.random.fill(&mut bytes).map_err(|_| DecisionError::NoRandomness)?;
        Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
    }
}

fn decide(pod: &Value, namespace: &Namespace, caches: &Caches, token: &str) -> Outcome {
    let Caches { profiles, settings, .. } = caches;
    inject(pod, &Context { namespace, profiles, settings, token })
}

/// Whether the outcome is one that users ask for, so that it deserves no warning.
pub(crate) fn expected(reason: Reason) -> bool {
    matches!(reason, Reason::NotOptedIn | Reason::OptedOut | Reason::AlreadyInjected)
}

/// Whether the pod leaves the choice to its namespace, and that, as cached, would not have had us called.
fn contradicts_call(outcome: &Outcome, pod: &Value) -> bool {
    let says = pod["metadata"]["labels"][names::INJECT_LABEL].as_str();
    let silent = !matches!(says, Some(names::ENABLED | names::DISABLED));
    // A wrong label does have us called; but it may have been mended since.
    let by_label = |reason| matches!(reason, Reason::NotOptedIn | Reason::OptedOut | Reason::InvalidLabel);
    silent && matches!(outcome, Outcome::Skipped { reason, .. } if by_label(*reason))
}

/// Whether the name may go into the path of a question: a pod's annotation says it, and `../secrets/x` is no name.
fn is_object_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let begins_well = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    begins_well && name.len() <= 253 && name.chars().all(allowed)
}

/// Rejected, or skipped where the pod has sidecars that stay.
fn lacks_profile(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Rejected { reason: Reason::ProfileNotFound, .. }
            | Outcome::Skipped { reason: Reason::ProfileNotFound, .. }
    )
}
