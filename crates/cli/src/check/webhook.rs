//! The webhook's replicas, and the version that they are of.

use outrigger_inject::Settings;
use serde_json::Value;

use super::line::Lines;
use crate::cluster::{AskError, Cluster};
use crate::installation::{self, Installation};
use crate::output::str_at;

const REPLICAS: &str = "Replicas";
const VERSION: &str = "Version";

/// The webhook's Deployment, where it can be read, with a line about its replicas.
pub(crate) async fn replicas(
    cluster: &Cluster,
    installation: &Installation,
    lines: &mut Lines,
) -> Option<Value> {
    lines.progress("the webhook's replicas");
    let Installation { name, namespace, .. } = installation;
    let Some(deployment) = lines.answer(REPLICAS, installation.deployment(cluster).await)? else {
        lines.failed(
            REPLICAS,
            format!("there is no deployment {name} in namespace {namespace}"),
            upgrade(installation),
        );
        return None;
    };
    let wanted = deployment["spec"]["replicas"].as_u64().unwrap_or(1);
    let ready = deployment["status"]["readyReplicas"].as_u64().unwrap_or(0);
    if ready == wanted && ready > 0 {
        lines.good(REPLICAS, format!("{ready} of {wanted} replicas of the webhook are ready"));
    } else {
        let why = why_not_ready(cluster, namespace, &deployment).await;
        let message = format!("{ready} of {wanted} replicas of the webhook are ready{why}");
        let look =
            format!("kubectl --namespace {namespace} describe pods -l app.kubernetes.io/component=webhook");
        if ready == 0 {
            lines.failed(REPLICAS, message, look);
        } else {
            lines.warning(REPLICAS, message, look);
        }
    }
    Some(deployment)
}

/// How the webhook of this Deployment injects, with a line about its version.
pub(crate) async fn version(
    cluster: &Cluster,
    installation: &Installation,
    deployment: &Value,
    lines: &mut Lines,
) -> Option<Settings> {
    let versions = lines.answer(VERSION, installation::versions(cluster).await)?;
    let settings = installation::settings(deployment, versions)?;
    let ours = env!("CARGO_PKG_VERSION");
    if settings.version == ours {
        lines.good(VERSION, format!("the webhook is of version {ours}, as this command is"));
    } else {
        let message = format!(
            "the webhook is of version {}, this command of {ours}: what they make of a pod may differ",
            settings.version
        );
        lines.warning(VERSION, message, upgrade(installation));
    }
    Some(settings)
}

/// What the first replica that is not ready says it lacks. Whoever can't ask gets no reason.
async fn why_not_ready(cluster: &Cluster, namespace: &str, deployment: &Value) -> String {
    let labels = deployment["spec"]["selector"]["matchLabels"].as_object().into_iter().flatten();
    let selector: Vec<_> =
        labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    let Ok(pods) = cluster.list(&path, &selector.join(","), "list the webhook's pods").await else {
        return String::new();
    };
    for pod in &pods {
        let name = str_at(pod, "/metadata/name");
        let page = format!("{path}/{name}:{}/proxy/ready", outrigger_api::names::ADMIN_PORT);
        if let Err(AskError::Refused { message, code: 503, .. }) = cluster.text(&page, "ask a replica").await
        {
            return format!(": {name} says {}", message.trim());
        }
    }
    String::new()
}

/// What puts an installation right whose objects are not as the chart made them.
pub(crate) fn upgrade(installation: &Installation) -> String {
    format!(
        "helm --namespace {} upgrade {} charts/outrigger --wait",
        installation.namespace, installation.release
    )
}
