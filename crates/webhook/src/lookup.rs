//! Asks the API server where a cache is behind.
//!
//! A namespace that was labelled the moment before its first pod is the common case, not a rare one: `kubectl apply -f
//! everything.yaml` does it each time. The API server that calls us has seen the label; our watch may not have. The same
//! for a profile that is found nowhere yet. One that is found is believed: where a namespace gets its own of a name that
//! the release namespace has too, or a profile is changed, that counts from when the watch brings it, a moment later.
//! To ask each time would put a round trip into every admission.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace as KubeNamespace;
use kube::Client;
use kube::api::{Api, DynamicObject, PartialObjectMeta};
use outrigger_inject::Namespace;
use serde_json::Value;

use crate::known::namespace;
use crate::metrics::{Metrics, Watched};
use crate::watch::profile_resource;

/// How long the API server may take to answer: a fifth of the admission's own timeout in the chart, so that a slow
/// answer still leaves us the time to say so.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// The API server refused, or could not be reached.
    #[error("failed to read {what}: {why}")]
    Api {
        /// The object.
        what: String,
        /// What the API server says, or the connection.
        why: String,
    },
    /// It took too long.
    #[error("failed to read {what}: no answer within {TIMEOUT:?}")]
    Timeout {
        /// The object.
        what: String,
    },
}

/// Asks the API server.
#[derive(Clone)]
pub struct Lookup {
    client: Client,
    metrics: Metrics,
}

impl Lookup {
    /// Asks through this client.
    pub fn new(client: Client, metrics: Metrics) -> Self {
        Self { client, metrics }
    }

    /// The namespace as it is now; none if there is none.
    pub async fn namespace(&self, name: &str) -> Result<Option<Namespace>, LookupError> {
        self.metrics.lookups.get_or_create(&Watched { resource: "namespaces" }).inc();
        let api: Api<PartialObjectMeta<KubeNamespace>> = Api::all(self.client.clone());
        let found = in_time(api.get_opt(name), || format!("namespace {name}")).await?;
        Ok(found.map(|object| namespace(object.metadata)))
    }

    /// The spec of a profile as it is now; none if there is no such profile.
    pub async fn profile(&self, namespace: &str, name: &str) -> Result<Option<Value>, LookupError> {
        self.metrics.lookups.get_or_create(&Watched { resource: "sidecarprofiles" }).inc();
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, &profile_resource());
        let found = in_time(api.get_opt(name), || format!("profile {namespace}/{name}")).await?;
        Ok(found.map(|mut object| object.data["spec"].take()))
    }
}

async fn in_time<T>(
    answer: impl Future<Output = kube::Result<T>>,
    what: impl FnOnce() -> String,
) -> Result<T, LookupError> {
    match tokio::time::timeout(TIMEOUT, answer).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(LookupError::Api { what: what(), why: why(&error) }),
        Err(_) => Err(LookupError::Timeout { what: what() }),
    }
}

/// What went wrong with a call: what the API server says, else the error with its causes. The client's own text repeats
/// the whole status object.
pub(crate) fn why(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return format!("{} ({})", status.message, status.code);
    }
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
