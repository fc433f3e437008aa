//! What we learn of the cluster's versions.

use outrigger_inject::{Cluster, Settings, Version};
use outrigger_runtime::readiness::Readiness;
use outrigger_webhook::known::Known;
use outrigger_webhook::metrics::Metrics;
use outrigger_webhook::nodes;

use crate::cluster::{self, RELEASE, put_node};
use crate::until;

pub(crate) fn settings() -> Settings {
    Settings {
        sidecar_image: "sidecar:1".into(),
        image_pull_policy: None,
        version: "0".into(),
        cluster: Cluster::default(),
    }
}

#[tokio::test]
async fn oldest_node_is_known_as_nodes_come_go_and_are_upgraded() {
    let (api, client) = cluster::installed().await;
    let known = Known::new(RELEASE, settings());
    let readiness = Readiness::default();
    let nodes = readiness.condition("nodes");
    let watch = nodes::oldest_node(client.clone(), known.clone(), nodes, Metrics::unregistered());
    let server = nodes::server_version(client, known.clone(), readiness.condition("version"));
    let tasks = [tokio::spawn(watch), tokio::spawn(server)];
    until("both are known", async || readiness.missing().is_empty()).await;
    let minor = |minor| Some(Version { major: 1, minor });
    assert_eq!(
        known.read().settings.cluster,
        Cluster { server: minor(34), oldest_node: minor(33), oldest_kernel: None }
    );

    let oldest = async |wanted| {
        until("the oldest node", async || known.read().settings.cluster.oldest_node == minor(wanted)).await;
    };
    put_node(&api, "older", "v1.28.15+k3s1");
    oldest(28).await;
    put_node(&api, "older", "v1.34.0");
    oldest(33).await;
    api.delete("/api/v1/nodes/old");
    oldest(34).await;
    // One that has just joined has told nothing of itself yet.
    put_node(&api, "joining", "");
    put_node(&api, "oldest", "v1.27.0");
    oldest(27).await;
    for task in tasks {
        task.abort();
    }
}
