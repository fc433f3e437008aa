//! What a release has put into the cluster, found without knowing what it puts there.

use futures::future::join_all;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::core::PartialObjectMeta;
use kube::discovery::{Discovery, Scope, verbs};
use kube::{Client, ResourceExt};

use crate::release::{NAME, NAMESPACE};

/// Kinds that are not looked at: history that expires by itself, and figures that somebody else computes.
const IGNORED: [&str; 3] = ["Event", "PodMetrics", "NodeMetrics"];
/// What Kubernetes puts into each namespace, and helm's own.
const KUBERNETES_OWN: [&str; 2] = ["ConfigMap kube-root-ca.crt", "ServiceAccount default"];

/// Every object of every kind that is in the release's namespace, bears the release's label, or is cluster-wide and called
/// like it; as `Kind name`, sorted.
pub async fn objects_of_release(client: &Client) -> Vec<String> {
    let discovery = Discovery::new(client.clone()).run().await.expect("the API server tells its kinds");
    let kinds = discovery.groups().flat_map(kube::discovery::ApiGroup::recommended_resources);
    let kinds = kinds
        .filter(|(kind, can)| can.supports_operation(verbs::LIST) && !IGNORED.contains(&kind.kind.as_str()));
    let lists = kinds.map(|(kind, can)| objects(client, kind, can.scope == Scope::Cluster));
    let mut found: Vec<String> = join_all(lists).await.into_iter().flatten().collect();
    found.retain(|object| !KUBERNETES_OWN.contains(&object.as_str()));
    found.sort();
    found
}

async fn objects(client: &Client, kind: ApiResource, cluster_wide: bool) -> Vec<String> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
    let list = api.list_metadata(&ListParams::default()).await.expect("every kind can be listed");
    let ours = list.items.into_iter().filter(|object| is_ours(object, cluster_wide));
    ours.map(|object| format!("{} {}", kind.kind, object.name_any())).collect()
}

fn is_ours(object: &PartialObjectMeta<DynamicObject>, cluster_wide: bool) -> bool {
    let name = object.name_any();
    let called_like_it = cluster_wide
        && name.contains(NAME)
        // The release's namespace is the user's; the node of the cluster is called like the project.
        && name != NAMESPACE
        && !name.contains("control-plane");
    object.namespace().as_deref() == Some(NAMESPACE)
        || object.labels().get("app.kubernetes.io/instance").is_some_and(|instance| instance == NAME)
        || called_like_it
}
