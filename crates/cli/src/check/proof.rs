//! The proof: a pod that is created now gets its sidecar.

use std::time::{Duration, Instant};

use outrigger_api::names::{INJECT_LABEL, PROXY_CONTAINER};
use serde_json::{Value, json};

use super::line::{Lines, Outcome};
use crate::cluster::{AskError, Cluster};
use crate::installation::{self, Installation};
use crate::output::str_at;

const CHECK: &str = "Injection";

/// Creates a labelled pod as a dry run, again until it comes back with a proxy or `patience` has passed: right after an
/// installation the API server may not know the webhook, or the check's own rights, yet. Nothing is left behind: the API
/// server stores no dry run.
pub(crate) async fn check(
    cluster: &Cluster,
    installation: Option<&Installation>,
    namespace: &str,
    patience: Duration,
    lines: &mut Lines,
) {
    lines.progress(&format!("a pod in namespace {namespace}, as a dry run"));
    let found = installation::namespace(cluster, namespace).await.ok().flatten();
    if let (Some(installation), Some(found)) = (installation, found)
        && !installation.is_asked(&found, &pod()["metadata"]["labels"])
    {
        let message =
            format!("the webhook configuration leaves namespace {namespace} out: no pod can be tried there");
        return lines.failed(CHECK, message, "outrigger check --namespace default");
    }
    let deadline = Instant::now() + patience;
    loop {
        let path = format!("/api/v1/namespaces/{namespace}/pods?dryRun=All");
        let answer = cluster.create(&path, &pod(), &format!("create a pod in namespace {namespace}")).await;
        let proxy = answer.as_ref().ok().and_then(proxy_image);
        if let Some(image) = proxy {
            return lines
                .good(CHECK, format!("a pod in namespace {namespace} gets {PROXY_CONTAINER} ({image})"));
        }
        if Instant::now() >= deadline {
            return tell(answer, namespace, lines);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn tell(answer: Result<Value, AskError>, namespace: &str, lines: &mut Lines) {
    let missing = match answer {
        Ok(_) => format!("a labelled pod in namespace {namespace} came back without {PROXY_CONTAINER}"),
        // Pod Security and quotas answer with the same code as RBAC, whose words these are.
        Err(AskError::Forbidden { message, .. }) if !message.contains("cannot create resource") => {
            format!("a labelled pod in namespace {namespace} is refused: {message}")
        }
        Err(AskError::Refused { code: 404, .. }) => {
            let message = format!("there is no namespace {namespace}");
            return lines.failed(CHECK, message, "outrigger check --namespace default");
        }
        Err(AskError::Refused { message, .. }) => {
            format!("a labelled pod in namespace {namespace} is refused: {message}")
        }
        Err(error) => {
            lines.answer::<()>(CHECK, Err(error));
            return;
        }
    };
    let look = "kubectl get pods -A -l app.kubernetes.io/name=outrigger; is the webhook ready, and is the namespace one \
                that the chart excludes?";
    lines.push(CHECK, Outcome::Failed, Some(namespace.to_owned()), missing, Some(look.to_owned()));
}

/// The image of the proxy that the pod came back with.
fn proxy_image(pod: &Value) -> Option<String> {
    let lists = [&pod["spec"]["initContainers"], &pod["spec"]["containers"]];
    let mut containers = lists.into_iter().filter_map(Value::as_array).flatten();
    containers
        .find(|container| container["name"] == PROXY_CONTAINER)
        .map(|proxy| str_at(proxy, "/image").to_owned())
}

/// A pod that Pod Security `restricted` admits, with one named port to take over.
fn pod() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "outrigger-check-", "labels": {INJECT_LABEL: "enabled"}},
        "spec": {
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "app",
                "image": "none.invalid/never-pulled",
                "ports": [{"name": "http", "containerPort": 8080}],
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    })
}
