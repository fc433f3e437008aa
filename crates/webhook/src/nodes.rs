//! What the cluster can do: the versions of its API server, of its oldest kubelet and of its oldest Linux.

use std::borrow::Cow;
use std::collections::HashMap;
use std::pin::pin;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::ObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, Resource, ResourceExt};
use outrigger_inject::Version;
use outrigger_runtime::readiness::Condition;
use serde::Deserialize;

use crate::known::Known;
use crate::lookup::why;
use crate::metrics::Metrics;
use crate::watch::next;

/// How often the API server's version is asked for: it changes with an upgrade of the cluster.
const INTERVAL: Duration = Duration::from_mins(5);
/// How soon again where it did not answer.
const RETRY: Duration = Duration::from_secs(5);
/// Nodes in one page of the list: their lists of images make them large.
const PAGE: u32 = 50;

/// A node, as far as we read it. Five thousand whole ones would be 100 MB.
#[derive(Clone, Debug, Deserialize)]
struct SlimNode {
    metadata: ObjectMeta,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    node_info: NodeInfo,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeInfo {
    kubelet_version: String,
    kernel_version: String,
}

impl Resource for SlimNode {
    type DynamicType = ();
    type Scope = <Node as Resource>::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        Node::kind(&())
    }
    fn group((): &()) -> Cow<'_, str> {
        Node::group(&())
    }
    fn version((): &()) -> Cow<'_, str> {
        Node::version(&())
    }
    fn plural((): &()) -> Cow<'_, str> {
        Node::plural(&())
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Asks for the API server's version, for ever. `known_once` holds from the first answer on: which kind of container a pod
/// gets may hang on it.
pub async fn server_version(client: Client, known: Known, known_once: Condition) {
    loop {
        let wait = match client.apiserver_version().await {
            Ok(info) => {
                // Minor versions of clouds end in `+`, which `Version` reads too.
                let version = format!("{}.{}", info.major, info.minor).parse().ok();
                set(&known, |cluster| &mut cluster.server, version, "API server");
                known_once.set(true);
                INTERVAL
            }
            Err(error) => {
                tracing::warn!(why = why(&error), "failed to read the API server's version");
                RETRY
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// Watches the nodes' versions, for ever.
pub async fn oldest_node(client: Client, known: Known, synced: Condition, metrics: Metrics) {
    let api: Api<SlimNode> = Api::all(client);
    let config = watcher::Config::default().page_size(PAGE);
    let mut events = pin!(watch(api, config).default_backoff());
    let (mut nodes, mut listed) = (HashMap::new(), HashMap::new());
    while let Some(event) = next(&mut events, "nodes", &metrics).await {
        // While a list comes in, what was known before stands.
        let listing = matches!(event, Event::Init | Event::InitApply(_));
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(node) => insert(&mut listed, &node),
            Event::InitDone => nodes = std::mem::take(&mut listed),
            Event::Apply(node) => insert(&mut nodes, &node),
            Event::Delete(node) => {
                nodes.remove(&node.name_any());
            }
        }
        if listing {
            continue;
        }
        let oldest = |version: fn(&Versions) -> Option<Version>| nodes.values().filter_map(version).min();
        set(&known, |cluster| &mut cluster.oldest_node, oldest(|node| node.kubelet), "oldest node");
        set(&known, |cluster| &mut cluster.oldest_kernel, oldest(|node| node.kernel), "oldest Linux");
        synced.set(true);
    }
}

/// A node's.
#[derive(Clone, Copy, Debug)]
struct Versions {
    kubelet: Option<Version>,
    kernel: Option<Version>,
}

/// A kubelet that has just joined gives no versions yet.
fn insert(nodes: &mut HashMap<String, Versions>, node: &SlimNode) {
    let info = &node.status.node_info;
    let versions =
        Versions { kubelet: info.kubelet_version.parse().ok(), kernel: info.kernel_version.parse().ok() };
    nodes.insert(node.name_any(), versions);
}

fn set(
    known: &Known,
    field: impl FnOnce(&mut outrigger_inject::Cluster) -> &mut Option<Version>,
    version: Option<Version>,
    whose: &str,
) {
    // Mostly it is what it was: a kubelet's heartbeat brings its node every few seconds.
    known.change(|caches| {
        let before = std::mem::replace(field(&mut caches.settings.cluster), version);
        if before != version {
            let version = version.map_or_else(|| "unknown".to_owned(), |version| version.to_string());
            tracing::info!(whose, version, "version known");
        }
        before != version
    });
}
