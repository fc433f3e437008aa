//! Hot plug on a real cluster, from a git server that is not ours: Debian's git behind nginx and fcgiwrap.

use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use outrigger_api::names::SYNC_ADMIN_PORT;
use outrigger_e2e::manifest::{demo_container, service, with};
use outrigger_e2e::namespace::DEADLINE;
use outrigger_e2e::{Namespace, eventually};
use serde_json::{Value, json};

use super::in_namespace;
use crate::ENABLED;

const LABELS: [(&str, &str); 2] = [ENABLED, ("pod-security.kubernetes.io/enforce", "restricted")];
/// How often the pods ask.
const INTERVAL: Duration = Duration::from_secs(4);

/// A tag is served within one poll by every pod, a broken one by none, and one that the app dies of is taken back.
#[tokio::test]
async fn a_tag_becomes_files_and_a_bad_one_does_not_stay() {
    in_namespace(&LABELS, |ns| async move {
        start_server(&ns).await;
        push(&ns, "v1", &[("index.html", "one")]).await;
        let pods = site(&ns, "restarted", 2, json!({"restart": true})).await;
        served(&ns, &pods, "one").await;

        push(&ns, "v2", &[("index.html", "two")]).await;
        served(&ns, &pods, "two").await;
        counted(&ns, &pods, "outrigger_sync_switches_total", 2).await;
        // The apps must have shown that they can live with it before there is a next one.
        let zeros = format!("{}  index.html\n", "0".repeat(64));
        push(&ns, "v3", &[("index.html", "three"), ("SHA256SUMS", &zeros)]).await;
        counted(&ns, &pods, "reason=\"BadChecksum\"", 1).await;
        served(&ns, &pods, "two").await;

        push(&ns, "v4", &[("index.html", "bad four")]).await;
        counted(&ns, &pods, "outrigger_sync_rollbacks_total", 1).await;
        // It died several times, so the kubelet takes its time.
        served(&ns, &pods, "two").await;

        push(&ns, "v5", &[("index.html", "five")]).await;
        counted(&ns, &pods, "version=\"v5\"", 1).await;
    })
    .await;
}

/// Apps that keep what they have read until they are told: the same ones read it again without a restart.
#[tokio::test]
async fn apps_are_told_by_a_signal_and_by_a_request() {
    in_namespace(&LABELS, |ns| async move {
        start_server(&ns).await;
        push(&ns, "v1", &[("index.html", "one")]).await;
        let mut pods = site(&ns, "signalled", 1, json!({"signal": "HUP"})).await;
        pods.extend(site(&ns, "asked", 1, json!({"http": {"port": 8080, "path": "/reload"}})).await);
        served(&ns, &pods, "one").await;
        push(&ns, "v2", &[("index.html", "two")]).await;
        served(&ns, &pods, "two").await;
        for pod in &pods {
            let pod = ns.api::<Pod>().get(&pod.name_any()).await.unwrap();
            let containers = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
            assert!(containers.iter().all(|container| container.restart_count == 0), "{containers:?}");
        }
    })
    .await;
}

/// Apps of one image, which know nothing of us, and are told in this way.
async fn site(ns: &Namespace, name: &str, replicas: u32, on_change: Value) -> Vec<Pod> {
    let entry = json!({
        "container": "app", "path": "/srv/www",
        "git": {"url": format!("http://git.{}.svc/site.git", ns.name), "tags": "v*"},
        "interval": format!("{}s", INTERVAL.as_secs()), "onChange": &on_change, "verifyFor": "30s",
    });
    ns.create_profile(name, json!({"interception": "ports", "sync": [entry]})).await.unwrap();
    let app = with(
        container("app", &["/usr/local/bin/app"]),
        json!({
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/index.html", "port": "http"}, "periodSeconds": 1},
        }),
    );
    let spec = json!({
        // What is asked needs no such reach.
        "shareProcessNamespace": on_change.get("http").is_none(), "securityContext": {"runAsUser": 1000},
        "terminationGracePeriodSeconds": 5, "containers": [app], "volumes": [{"name": "tmp", "emptyDir": {}}],
    });
    let metadata = json!({"labels": {"app": name}, "annotations": {"outrigger.dev/profile": name}});
    let deployment = json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": metadata, "spec": spec},
        },
    });
    ns.create::<Deployment>(deployment).await.unwrap();
    ns.rolled_out(name).await
}

async fn start_server(ns: &Namespace) {
    let server = with(
        container("git", &["/usr/local/bin/serve"]),
        json!({
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "data", "mountPath": "/data"}],
        }),
    );
    let volumes = json!([{"name": "tmp", "emptyDir": {}}, {"name": "data", "emptyDir": {}}]);
    ns.create::<Pod>(json!({
        "metadata": {"name": "git", "labels": {"app": "git", "outrigger.dev/inject": "disabled"}},
        "spec": {"containers": [server], "volumes": volumes, "terminationGracePeriodSeconds": 1},
    }))
    .await
    .unwrap();
    ns.create::<Service>(service("git")).await.unwrap();
    ns.pod_ready("git").await;
    // git does not try again.
    ns.leads_to_its_pods("git").await;
}

/// By git itself, from within the cluster.
async fn push(ns: &Namespace, tag: &str, files: &[(&str, &str)]) {
    let mut command = vec!["/usr/local/bin/push", "http://git/site.git", tag];
    command.extend(files.iter().flat_map(|(path, content)| [*path, *content]));
    let name = format!("push-{tag}");
    let metadata = json!({"labels": {"outrigger.dev/inject": "disabled"}});
    let spec = json!({
        "restartPolicy": "Never", "containers": [container("push", &command)], "volumes": [{"name": "tmp", "emptyDir": {}}],
    });
    let job = json!({"metadata": {"name": name}, "spec": {"backoffLimit": 0, "template": {"metadata": metadata, "spec": spec}}});
    ns.create::<Job>(job).await.unwrap();
    ns.job_completed(&name).await;
}

fn container(name: &str, command: &[&str]) -> Value {
    with(
        demo_container(&[]),
        json!({
            "name": name, "image": "outrigger/git:dev", "command": command, "args": null,
            "securityContext": {"runAsUser": 1000},
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        }),
    )
}

async fn served(ns: &Namespace, pods: &[Pod], wanted: &str) {
    eventually(&format!("every pod to serve {wanted}"), DEADLINE, || async {
        for pod in pods {
            let text = page(ns, pod, 8080, "index.html").await?;
            ensure!(text == wanted, "{} serves {text:?}", pod.name_any());
        }
        Ok(())
    })
    .await;
}

/// Waits until each pod's series has at least this value.
async fn counted(ns: &Namespace, pods: &[Pod], series: &str, least: u64) {
    eventually(&format!("{series} of every pod to be {least}"), DEADLINE, || async {
        for pod in pods {
            let metrics = page(ns, pod, SYNC_ADMIN_PORT, "metrics").await?;
            let line = metrics.lines().find(|line| line.contains(series) && !line.starts_with('#'));
            let value: u64 = line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok()).unwrap_or(0);
            ensure!(value >= least, "{}: {line:?}", pod.name_any());
        }
        Ok(())
    })
    .await;
}

/// By the API server's proxy.
async fn page(ns: &Namespace, pod: &Pod, port: u16, path: &str) -> anyhow::Result<String> {
    let uri = format!("/api/v1/namespaces/{}/pods/{}:{port}/proxy/{path}", ns.name, pod.name_any());
    let page = ns.client.request_text(http::Request::get(uri).body(Vec::new())?).await;
    page.with_context(|| format!("{path} of {}", pod.name_any()))
}
