//! Keeps [`Known`] up to date.
//!
//! A failed watch starts again with backoff, for ever; meanwhile the caches stay as they were, and
//! [`crate::lookup`] covers what they miss. Readiness needs each to have been complete once.

use std::pin::pin;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Namespace as KubeNamespace;
use kube::api::{Api, ApiResource, DynamicObject, PartialObjectMeta};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Client, ResourceExt};
use outrigger_inject::Profiles;
use outrigger_runtime::readiness::Condition;

use crate::known::{Known, namespace};
use crate::lookup::why;
use crate::metrics::{Metrics, Watched};

/// Watches namespaces, their metadata only, for ever.
pub async fn namespaces(client: Client, known: Known, synced: Condition, metrics: Metrics) {
    let api: Api<PartialObjectMeta<KubeNamespace>> = Api::all(client);
    let mut events = pin!(watch(api, watcher::Config::default()).default_backoff());
    let mut listed = std::collections::HashMap::new();
    while let Some(event) = next(&mut events, "namespaces", &metrics).await {
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(object) => {
                listed.insert(object.name_any(), namespace(object.metadata));
            }
            Event::InitDone => {
                known.write().namespaces = std::mem::take(&mut listed);
                synced.set(true);
            }
            Event::Apply(object) => {
                known.write().namespaces.insert(object.name_any(), namespace(object.metadata));
            }
            Event::Delete(object) => {
                known.write().namespaces.remove(&object.name_any());
            }
        }
        metrics.namespaces.set(gauge(known.read().namespaces.len()));
    }
}

/// Watches the profiles of all namespaces for ever. `installed` does not hold while the cluster has no such resource.
///
/// As raw JSON: a typed watch would stop at the first profile that does not fit our types, and with it every other.
pub async fn profiles(
    client: Client,
    release_namespace: String,
    known: Known,
    synced: Condition,
    installed: Condition,
    metrics: Metrics,
) {
    let api: Api<DynamicObject> = Api::all_with(client, &profile_resource());
    // Until the first failure, so that readiness names the resource only where it is what is missing.
    installed.set(true);
    let watched = watch(api, watcher::Config::default()).inspect(move |event| match event {
        Err(error) if not_found(error) => installed.set(false),
        Ok(Event::InitDone) => installed.set(true),
        _ => {}
    });
    let mut events = pin!(watched.default_backoff());
    let mut listed = Profiles::new(&release_namespace);
    while let Some(event) = next(&mut events, "sidecarprofiles", &metrics).await {
        match event {
            Event::Init => listed = Profiles::new(&release_namespace),
            Event::InitApply(object) => set(&mut listed, &object),
            Event::InitDone => {
                let fresh = Profiles::new(&release_namespace);
                known.write().profiles = std::mem::replace(&mut listed, fresh);
                synced.set(true);
            }
            Event::Apply(object) => set(&mut known.write().profiles, &object),
            Event::Delete(object) => {
                let namespace = object.namespace().unwrap_or_default();
                known.write().profiles.remove(&namespace, &object.name_any());
            }
        }
        metrics.profiles.set(gauge(known.read().profiles.count()));
    }
}

/// The resource `sidecarprofiles.outrigger.dev`. By hand, because the type that derives it stands behind api's feature
/// `crd`: here, that would bring the Kubernetes types into sidecars that are built in the same run of cargo.
pub fn profile_resource() -> ApiResource {
    ApiResource {
        group: "outrigger.dev".into(),
        version: "v1alpha1".into(),
        api_version: "outrigger.dev/v1alpha1".into(),
        kind: "SidecarProfile".into(),
        plural: "sidecarprofiles".into(),
    }
}

fn set(profiles: &mut Profiles, object: &DynamicObject) {
    let namespace = object.namespace().unwrap_or_default();
    profiles.set(&namespace, &object.name_any(), &object.data["spec"]);
}

/// The next event that is no failure. The watch itself starts again after one, and the backoff slows that down.
pub(crate) async fn next<K>(
    events: &mut (impl Stream<Item = watcher::Result<Event<K>>> + Unpin),
    resource: &'static str,
    metrics: &Metrics,
) -> Option<Event<K>> {
    loop {
        match events.next().await? {
            Ok(event) => return Some(event),
            Err(error) => {
                metrics.watch_restarts.get_or_create(&Watched { resource }).inc();
                let why = match &error {
                    watcher::Error::InitialListFailed(error)
                    | watcher::Error::WatchStartFailed(error)
                    | watcher::Error::WatchFailed(error) => why(error),
                    other => other.to_string(),
                };
                let hint = not_found(&error)
                    .then_some("the CustomResourceDefinition is not installed: the chart brings it in crds/");
                tracing::warn!(resource, why, hint, "watch failed and starts again");
            }
        }
    }
}

fn not_found(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(kube::Error::Api(status))
    | watcher::Error::WatchStartFailed(kube::Error::Api(status))
    | watcher::Error::WatchError(status)) = error
    else {
        return false;
    };
    status.code == 404
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use outrigger_api::profile::SidecarProfile;

    use super::*;

    #[test]
    fn profiles_are_looked_for_where_the_crd_puts_them() {
        assert_eq!(profile_resource(), ApiResource::erase::<SidecarProfile>(&()));
    }
}
