//! Keeps [`Known`] up to date.
//!
//! A failed watch starts again with backoff, for ever; meanwhile the caches stay as they were, and
//! [`crate::lookup`] covers what they miss. Readiness needs each to have been complete once.

use std::collections::HashMap;
use std::pin::pin;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Namespace as KubeNamespace;
use kube::api::{Api, ApiResource, DynamicObject, PartialObjectMeta};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Client, ResourceExt};
use outrigger_inject::{Namespace, Profiles};
use outrigger_runtime::readiness::Condition;

use crate::known::{Known, namespace};
use crate::lookup::why;
use crate::metrics::{Metrics, Watched};

/// Watches namespaces, their metadata only, for ever.
pub async fn namespaces(client: Client, known: Known, synced: Condition, metrics: Metrics) {
    let api: Api<PartialObjectMeta<KubeNamespace>> = Api::all(client);
    let mut events = pin!(watch(api, watcher::Config::default()).default_backoff());
    let mut listed = HashMap::new();
    while let Some(event) = next(&mut events, "namespaces", &metrics).await {
        let complete = matches!(event, Event::InitDone);
        take_namespace(event, &mut listed, &known);
        if complete {
            synced.set(true);
        }
        metrics.namespaces.set(gauge(known.read().namespaces.len()));
    }
}

/// `listed`: what a list has brought so far, until it is complete.
fn take_namespace(
    event: Event<PartialObjectMeta<KubeNamespace>>,
    listed: &mut HashMap<String, Namespace>,
    known: &Known,
) {
    match event {
        Event::Init => listed.clear(),
        Event::InitApply(object) => {
            listed.insert(object.name_any(), namespace(object.metadata));
        }
        Event::InitDone => known.change(|caches| {
            let before = std::mem::replace(&mut caches.namespaces, std::mem::take(listed));
            before != caches.namespaces
        }),
        Event::Apply(object) => known.change(|caches| {
            let (name, namespace) = (object.name_any(), namespace(object.metadata));
            caches.namespaces.insert(name, namespace.clone()) != Some(namespace)
        }),
        Event::Delete(object) => {
            known.change(|caches| caches.namespaces.remove(&object.name_any()).is_some());
        }
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
        let complete = matches!(event, Event::InitDone);
        if matches!(event, Event::Init) {
            listed = Profiles::new(&release_namespace);
        }
        take_profile(&event, &mut listed, &known);
        if complete {
            synced.set(true);
        }
        metrics.profiles.set(gauge(known.read().profiles.count()));
    }
}

/// As [`take_namespace`]; for `Init` the caller has emptied `listed`.
fn take_profile(event: &Event<DynamicObject>, listed: &mut Profiles, known: &Known) {
    match event {
        Event::Init => {}
        Event::InitApply(object) => {
            set(listed, object);
        }
        Event::InitDone => known.change(|caches| {
            let before = std::mem::replace(&mut caches.profiles, std::mem::take(listed));
            before != caches.profiles
        }),
        Event::Apply(object) => known.change(|caches| set(&mut caches.profiles, object)),
        Event::Delete(object) => known.change(|caches| {
            caches.profiles.remove(&object.namespace().unwrap_or_default(), &object.name_any());
            true
        }),
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

/// Whether its spec is another than before: watches tell of the status too, which we write.
fn set(profiles: &mut Profiles, object: &DynamicObject) -> bool {
    let namespace = object.namespace().unwrap_or_default();
    profiles.set(&namespace, &object.name_any(), &object.data["spec"])
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
    use futures::FutureExt;
    use outrigger_api::profile::SidecarProfile;
    use outrigger_inject::{Cluster, Settings};
    use serde_json::{Value, json};

    use super::*;

    fn known() -> Known {
        let settings = Settings {
            sidecar_image: "sidecar:1".into(),
            image_pull_policy: None,
            version: "0.0.0".into(),
            cluster: Cluster::default(),
        };
        Known::new("outrigger", settings)
    }

    /// Each audit writes the status of profiles, and what that brought here started the next audit.
    #[test]
    fn only_what_injection_looks_at_is_a_change() {
        let known = known();
        let changes = || known.changed().now_or_never().is_some();
        let profile = |spec: &Value, pods: u32| {
            serde_json::from_value::<DynamicObject>(json!({
                "apiVersion": "outrigger.dev/v1alpha1", "kind": "SidecarProfile",
                "metadata": {"name": "web", "namespace": "shop"}, "spec": spec, "status": {"pods": pods},
            }))
            .unwrap()
        };
        let debug = json!({"proxy": {"logLevel": "debug"}});
        let mut listed = Profiles::new("outrigger");
        let mut profiles = |event| {
            take_profile(&event, &mut listed, &known);
            changes()
        };
        assert!(profiles(Event::Apply(profile(&json!({}), 0))));
        assert!(!profiles(Event::Apply(profile(&json!({}), 1))), "its status alone");
        assert!(profiles(Event::Apply(profile(&debug, 1))));
        assert!(!profiles(Event::InitApply(profile(&debug, 2))), "a list that comes in");
        assert!(!profiles(Event::InitDone), "a list of what is known");
        assert!(profiles(Event::Delete(profile(&debug, 2))));

        let namespace = |metadata: &Value| {
            serde_json::from_value::<PartialObjectMeta<KubeNamespace>>(json!({
                "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata,
            }))
            .unwrap()
        };
        let mut listed = HashMap::new();
        let mut namespaces = |event| {
            take_namespace(event, &mut listed, &known);
            changes()
        };
        let labelled = json!({"name": "shop", "labels": {"outrigger.dev/inject": "enabled"}});
        assert!(namespaces(Event::Apply(namespace(&json!({"name": "shop"})))));
        assert!(namespaces(Event::Apply(namespace(&labelled))));
        let mut touched = labelled.clone();
        touched["annotations"]["team"] = "x".into();
        assert!(!namespaces(Event::Apply(namespace(&touched))), "somebody else's annotation");
        assert!(!namespaces(Event::InitApply(namespace(&labelled))));
        assert!(!namespaces(Event::InitDone));
        assert!(namespaces(Event::Delete(namespace(&labelled))));
        assert!(!namespaces(Event::Delete(namespace(&labelled))));
    }

    #[test]
    fn profiles_are_looked_for_where_the_crd_puts_them() {
        assert_eq!(profile_resource(), ApiResource::erase::<SidecarProfile>(&()));
    }
}
