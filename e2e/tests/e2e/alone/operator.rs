//! The chart's monitors and rules in the hands of the real Prometheus operator.

use std::process::Command;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, ApiResource, DynamicObject, PostParams};
use outrigger_e2e::manifest::{measured_deployment, server_deployment, service, with};
use outrigger_e2e::namespace::DEADLINE;
use outrigger_e2e::{Namespace, Release, eventually, prometheus, release, with_namespace};
use serde_json::{Value, json};

use crate::ENABLED;

/// Where `e2e/prometheus-image` lays what the operator's objects look like.
const DEFINITIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/e2e/prometheus-operator");
const POD: &str = "prometheus-e2e-0";

fn kubectl(args: &[&str]) {
    let output = Command::new("kubectl").args(args).output().expect("kubectl is on the PATH");
    assert!(output.status.success(), "kubectl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The operator, and a Prometheus that takes every monitor and rule of the cluster.
async fn start(ns: &Namespace) {
    prometheus::grant(ns, "prometheus").await;
    // What it may do is its own affair; here it may do everything.
    prometheus::rule(ns, "operator").await;
    let operator = json!({
        "metadata": {"name": "operator"},
        "spec": {
            "selector": {"matchLabels": {"app": "operator"}},
            "template": {
                "metadata": {"labels": {"app": "operator", "outrigger.dev/inject": "disabled"}},
                "spec": {
                    "serviceAccountName": "operator",
                    "containers": [{
                        "name": "operator", "image": prometheus::IMAGE, "imagePullPolicy": "Never", "command": ["/bin/operator"],
                        "args": [
                            format!("--prometheus-config-reloader={}", prometheus::IMAGE), format!("--prometheus-instance-namespaces={}", ns.name),
                            "--kubelet-service=", "--kubelet-endpoints=false",
                        ],
                    }],
                },
            },
        },
    });
    ns.create::<Deployment>(operator).await.unwrap();
    let (group, kind) = ("monitoring.coreos.com", "Prometheus");
    let resource = ApiResource {
        group: group.into(),
        version: "v1".into(),
        api_version: format!("{group}/v1"),
        kind: kind.into(),
        plural: "prometheuses".into(),
    };
    let everything = json!({});
    let spec = json!({
        "image": prometheus::IMAGE, "imagePullPolicy": "Never", "version": "v3.5.0", "replicas": 1, "serviceAccountName": "prometheus",
        "podMetadata": {"labels": {"outrigger.dev/inject": "disabled"}},
        "podMonitorSelector": everything, "podMonitorNamespaceSelector": everything,
        "serviceMonitorSelector": everything, "serviceMonitorNamespaceSelector": everything,
        "ruleSelector": everything, "ruleNamespaceSelector": everything,
    });
    let prometheus = DynamicObject::new("e2e", &resource).data(json!({"spec": spec}));
    let api: Api<DynamicObject> = Api::namespaced_with(ns.client.clone(), &ns.name, &resource);
    api.create(&PostParams::default(), &prometheus).await.unwrap();
}

/// The targets of this scrape pool that are up, and all of them.
async fn targets(ns: &Namespace, pool: &str) -> anyhow::Result<(usize, Vec<Value>)> {
    let told = prometheus::ask(ns, POD, "targets?state=active").await?;
    let all = told["activeTargets"].as_array().context("there are targets")?;
    let of_pool = |target: &&Value| target["scrapePool"].as_str().is_some_and(|name| name.starts_with(pool));
    let ours: Vec<_> = all.iter().filter(of_pool).cloned().collect();
    Ok((ours.iter().filter(|target| target["health"] == "up").count(), ours))
}

#[tokio::test]
async fn the_operator_scrapes_each_sidecar_and_takes_the_rules() {
    let _alone = release::alone().await;
    kubectl(&["apply", "--server-side", "--force-conflicts", "--filename", DEFINITIONS]);
    let monitors = ["podMonitor", "serviceMonitor"]
        .map(|kind| [format!("{kind}.enabled=true"), format!("{kind}.interval=1s")]);
    let values: Vec<_> =
        monitors.as_flattened().iter().map(String::as_str).chain(["prometheusRule.enabled=true"]).collect();
    let _release = Release::with(&values).await;
    with_namespace(&[ENABLED], |ns| async move {
        ns.create::<Deployment>(server_deployment("web", 3)).await.unwrap();
        ns.create::<Service>(service("web")).await.unwrap();
        ns.create_profile("told", json!({"metrics": {"app": {"port": "metrics"}}})).await.unwrap();
        let told = json!({"metadata": {"annotations": {"outrigger.dev/profile": "told"}}});
        ns.create::<Deployment>(with(measured_deployment("store"), json!({"spec": {"template": told}})))
            .await
            .unwrap();
        ns.rolled_out("web").await;
        ns.rolled_out("store").await;
        start(&ns).await;
        eventually("each pod is a target, and up", DEADLINE * 2, || async {
            let (up, all) = targets(&ns, "podMonitor/outrigger-system/outrigger-sidecars").await?;
            let of_web = all.iter().filter(|target| target["labels"]["workload"] == "web").count();
            ensure!(up == 4 && all.len() == 4 && of_web == 3, "{up} of {}: {all:?}", all.len());
            let (up, apps) = targets(&ns, "podMonitor/outrigger-system/outrigger-apps").await?;
            let labels =
                apps.first().map(|target| (&target["labels"]["workload"], &target["labels"]["container"]));
            ensure!(up == 1 && labels == Some((&json!("store"), &json!("store"))), "{apps:?}");
            let (webhook, _) = targets(&ns, "serviceMonitor/outrigger-system/outrigger-webhook").await?;
            ensure!(webhook == 2, "{webhook} replicas of the webhook are");
            let (collector, _) = targets(&ns, "podMonitor/outrigger-system/outrigger-collector").await?;
            ensure!(collector == 1, "{collector} collectors are");
            Ok(())
        })
        .await;
        let rules = prometheus::ask(&ns, POD, "rules").await.unwrap().to_string();
        assert!(
            rules.contains("OutriggerErrorRatio")
                && rules.contains("workload:outrigger_http_requests:rate5m"),
            "{rules}"
        );
    })
    .await;
    // Helm would not find again what it has made, were its kinds gone first.
    Release::with(&[]).await;
    kubectl(&["delete", "--filename", DEFINITIONS, "--wait=false"]);
}
