//! The webhook configuration: one, and nobody else's for the same pods.

use outrigger_inject::Namespace;
use serde_json::{Value, json};

use super::line::Lines;
use crate::cluster::Cluster;
use crate::installation::{CONFIGURATIONS, Installation, namespace_of};
use crate::output::str_at;
use outrigger_inject::selects;

const CHECK: &str = "Registration";
const OVERLAP: &str = "OtherWebhooks";
/// Injectors of other proxies that take a pod's traffic, by the end of the names of their webhooks. Only those that choose
/// pods by selectors; from others nobody can tell whom they inject.
const OTHER_MESHES: [&str; 2] = [".istio.io", ".kuma.io"];

/// The installation that is looked at: the first one.
pub(crate) async fn check(cluster: &Cluster, lines: &mut Lines) -> Option<Installation> {
    lines.progress("webhook configurations");
    let mut all = lines.answer(CHECK, Installation::all(cluster).await)?;
    let Some(first) = all.first().cloned() else {
        let install =
            "helm install outrigger charts/outrigger --namespace outrigger-system --create-namespace --wait";
        lines.failed(CHECK, "Outrigger is not installed: no webhook configuration has its entries", install);
        return None;
    };
    let names =
        |installation: &Installation| format!("{} (namespace {})", installation.name, installation.namespace);
    lines.good(CHECK, format!("webhook configuration {}", names(&first)));
    let namespaces = cluster.list("/api/v1/namespaces", "", "list namespaces").await;
    let Some(namespaces) = lines.answer(OVERLAP, namespaces) else { return Some(first) };
    let namespaces: Vec<_> = namespaces.iter().map(namespace_of).collect();
    for other in all.drain(..).skip(1) {
        if let Some(both) = namespaces.iter().find(|namespace| both_asked(&first, &other, namespace)) {
            let message = format!(
                "{} and {} both inject the pods of namespace {}",
                names(&first),
                names(&other),
                both.name
            );
            lines.failed(
                OVERLAP,
                message,
                format!("helm --namespace {} uninstall {}", other.namespace, other.release),
            );
        }
    }
    other_meshes(cluster, &first, &namespaces, lines).await;
    if !lines.found(OVERLAP) {
        lines.good(OVERLAP, "no other webhook injects the same pods");
    }
    Some(first)
}

fn both_asked(one: &Installation, other: &Installation, namespace: &Namespace) -> bool {
    let pods = [json!({}), json!({outrigger_api::names::INJECT_LABEL: outrigger_api::names::ENABLED})];
    pods.iter().any(|labels| one.is_asked(namespace, labels) && other.is_asked(namespace, labels))
}

async fn other_meshes(cluster: &Cluster, ours: &Installation, namespaces: &[Namespace], lines: &mut Lines) {
    let Ok(configurations) = cluster.list(CONFIGURATIONS, "", "list webhook configurations").await else {
        return;
    };
    for configuration in &configurations {
        let entries = configuration["webhooks"].as_array().into_iter().flatten();
        for entry in
            entries.filter(|entry| OTHER_MESHES.iter().any(|mesh| str_at(entry, "/name").ends_with(mesh)))
        {
            let both = namespaces.iter().find(|namespace| {
                let labels = serde_json::to_value(&namespace.labels).unwrap_or_default();
                let theirs = selects(&entry["namespaceSelector"], &labels)
                    && selects(&entry["objectSelector"], &Value::Null);
                theirs && ours.is_asked(namespace, &Value::Null)
            });
            if let Some(both) = both {
                let message = format!(
                    "the webhook {} injects the pods of namespace {} too: two proxies would take the same ports",
                    str_at(entry, "/name"),
                    both.name
                );
                lines.warning(
                    OVERLAP,
                    message,
                    format!("kubectl label namespace {} outrigger.dev/inject-", both.name),
                );
            }
        }
    }
}
