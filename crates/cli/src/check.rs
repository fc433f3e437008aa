//! `outrigger check`: the proof that a pod created now would be injected.

use std::time::{Duration, Instant};

use anstream::println;
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, Client};
use outrigger_api::names::{INJECT_LABEL, PROXY_CONTAINER};
use serde_json::json;

use crate::error::Hinted;

/// Proves that injection works: creates a labelled pod as a dry run and looks for the proxy in what comes back
///
/// Needs the right to create pods in the namespace. Nothing is left behind: the API server stores no dry run.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  outrigger check --namespace shop
  outrigger check --namespace shop --timeout 60")]
pub(crate) struct Args {
    /// Namespace to create the pod in; any but the webhook's own and those that the chart excludes
    #[arg(short, long, default_value = "default")]
    namespace: String,

    /// Seconds to go on trying: right after an installation the API server may not know the webhook yet
    #[arg(long, default_value_t = 30)]
    timeout: u64,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(check(args))
}

async fn check(args: &Args) -> anyhow::Result<()> {
    let client = Client::try_default().await.map_err(|error| {
        Hinted::new(
            format!("failed to find a cluster: {error}"),
            "set KUBECONFIG, or run it in a pod of the cluster",
        )
    })?;
    let pods = Api::<Pod>::namespaced(client, &args.namespace);
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    loop {
        match try_once(&pods, &args.namespace).await {
            Ok(image) => {
                println!("√ a pod in namespace {} gets {PROXY_CONTAINER} ({image})", args.namespace);
                return Ok(());
            }
            Err(error) if Instant::now() >= deadline => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    }
}

/// The image of the proxy that the pod came back with.
async fn try_once(pods: &Api<Pod>, namespace: &str) -> Result<String, Hinted> {
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let created = pods.create(&dry_run, &probe_pod()).await.map_err(|error| {
        let hint = "a refusal by the webhook names its reason; otherwise, may you create pods there?";
        Hinted::new(format!("failed to create a pod in namespace {namespace}: {error}"), hint)
    })?;
    let init_containers = created.spec.and_then(|spec| spec.init_containers).unwrap_or_default();
    let proxy = init_containers.into_iter().find(|container| container.name == PROXY_CONTAINER);
    proxy.and_then(|proxy| proxy.image).ok_or_else(|| {
        Hinted::new(
            format!("a labelled pod in namespace {namespace} came back without {PROXY_CONTAINER}"),
            "is the webhook ready, and is the namespace one that the chart excludes? kubectl get pods -A -l \
             app.kubernetes.io/name=outrigger; kubectl get mutatingwebhookconfiguration outrigger-webhook -o yaml",
        )
    })
}

/// A pod that Pod Security `restricted` admits, with one named port to take over.
fn probe_pod() -> Pod {
    serde_json::from_value(json!({
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
    }))
    .expect("the pod is a constant")
}
