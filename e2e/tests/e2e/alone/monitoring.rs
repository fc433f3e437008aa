//! What a real Prometheus makes of the sidecars: counts to the request, alerts that begin and end, and every query of the dashboards.

use std::path::Path;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use kube::api::DeleteParams;
use outrigger_e2e::manifest::{
    demo_container, fetch_job, measured_deployment, server_deployment, server_pod, service, with, writer_pod,
};
use outrigger_e2e::namespace::DEADLINE;
use outrigger_e2e::prometheus::{self, number, query};
use outrigger_e2e::{Namespace, Release, eventually, release, with_namespace};
use serde_json::{Value, json};

use crate::ENABLED;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/outrigger");
const POD: &str = "prometheus";
/// Requests of a Job that is deleted long before it has sent them all.
const FOR_LONG: u32 = 100_000;

/// Sends requests that each must get this status.
fn fetch(name: &str, url: &str, count: u32, expect: u16, more: &[&str]) -> Value {
    let (count, expect) = (format!("--count={count}"), format!("--expect={expect}"));
    let args = [&["fetch", url, &count, &expect, "--concurrency=2"], more].concat();
    let container = with(demo_container(&args), json!({"name": "fetch"}));
    with(fetch_job(name, url, 1), json!({"spec": {"template": {"spec": {"containers": [container]}}}}))
}

async fn web(ns: &Namespace) {
    ns.create::<Deployment>(server_deployment("web", 2)).await.unwrap();
    ns.create::<Service>(service("web")).await.unwrap();
    ns.rolled_out("web").await;
    ns.leads_to_its_pods("web").await;
}

async fn eventually_is(ns: &Namespace, expression: &str, wanted: f64) {
    eventually(&format!("{expression} is {wanted}"), DEADLINE, || async {
        let found = number(ns, POD, expression).await?;
        ensure!((found - wanted).abs() < f64::EPSILON, "{found}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn prometheus_reads_each_request_and_alerts_as_long_as_they_fail() {
    let _alone = release::alone().await;
    let _release = Release::with(&["auditInterval=5s"]).await;
    with_namespace(&[ENABLED], |ns| async move {
        web(&ns).await;
        prometheus::start(&ns).await;
        let of = format!("namespace=\"{}\", workload=\"web\"", ns.name);
        eventually_is(&ns, &format!("count(up{{{of}, container=\"outrigger-proxy\"}} == 1)"), 2.0).await;

        ns.create::<Job>(fetch("good", "http://web/", 90, 200, &[])).await.unwrap();
        ns.create::<Job>(fetch("bad", "http://web/status/500", 10, 500, &[])).await.unwrap();
        ns.job_completed("good").await;
        ns.job_completed("bad").await;
        for (code, wanted) in [("200", 90.0), ("500", 10.0)] {
            let counted =
                format!("sum(outrigger_http_requests_total{{{of}, direction=\"inbound\", code=\"{code}\"}})");
            eventually_is(&ns, &counted, wanted).await;
        }

        let firing = format!("ALERTS{{alertname=\"OutriggerErrorRatio\", alertstate=\"firing\", {of}}}");
        ns.create::<Job>(fetch("worse", "http://web/status/500", FOR_LONG, 500, &["--rate=20"]))
            .await
            .unwrap();
        eventually("the alert fires", DEADLINE, || async {
            ensure!(query(&ns, POD, &firing).await?.len() == 1, "it does not");
            Ok(())
        })
        .await;
        ns.api::<Job>().delete("worse", &DeleteParams::background()).await.unwrap();
        eventually("the alert has ended", DEADLINE, || async {
            ensure!(query(&ns, POD, &firing).await?.is_empty(), "it fires");
            Ok(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn annotated_pods_are_found_and_an_apps_own_metrics_come_by_its_sidecar() {
    let _alone = release::alone().await;
    let _release = Release::with(&[]).await;
    with_namespace(&[ENABLED], |ns| async move {
        let spec = json!({"metrics": {"annotate": true, "app": {"port": "metrics"}}});
        ns.create_profile("told", spec).await.unwrap();
        ns.annotate("outrigger.dev/profile", "told").await;
        // With annotations of its own, which lead to the app and stay.
        let own = json!({"prometheus.io/scrape": "true", "prometheus.io/port": "9090"});
        let own = json!({"spec": {"template": {"metadata": {"annotations": own}}}});
        ns.create::<Deployment>(measured_deployment("store")).await.unwrap();
        ns.create::<Deployment>(with(measured_deployment("own"), own)).await.unwrap();
        ns.rolled_out("store").await;
        ns.rolled_out("own").await;
        prometheus::start(&ns).await;
        let of = |job: &str, workload: &str| {
            format!("namespace=\"{}\", job=\"{job}\", workload=\"{workload}\"", ns.name)
        };
        for workload in ["store", "own"] {
            let app = of("outrigger-apps", workload);
            eventually_is(&ns, &format!("count(prometheus_build_info{{{app}, container=\"store\"}})"), 1.0)
                .await;
        }
        let (sidecar, app) = (of("annotated-pods", "store"), of("annotated-pods", "own"));
        eventually_is(&ns, &format!("count(outrigger_build_info{{{sidecar}}})"), 1.0).await;
        eventually_is(&ns, &format!("count(prometheus_build_info{{{app}}})"), 1.0).await;
        // Scrapes of `store` are its sidecar's affair, and no traffic of the app.
        let counted =
            format!("sum(outrigger_http_requests_total{{{sidecar}, direction=\"inbound\"}}) or vector(0)");
        eventually_is(&ns, &counted, 0.0).await;
    })
    .await;
}

/// Everything that a panel may show, at least a little of it.
async fn some_of_everything(ns: &Namespace) {
    // Older than the label: a pod that should have sidecars and has none.
    ns.create::<Pod>(server_pod("early")).await.unwrap();
    ns.label(ENABLED).await;
    let api = format!("api.{}.svc", ns.name);
    let upstream = json!({"name": "api", "host": api, "port": 80, "env": "API_URL", "circuitBreaker": {}});
    ns.create_profile("calls", json!({"upstreams": [upstream]})).await.unwrap();
    let calls = json!({"metadata": {"annotations": {"outrigger.dev/profile": "calls"}}});
    ns.create::<Deployment>(with(server_deployment("web", 2), json!({"spec": {"template": calls}})))
        .await
        .unwrap();
    ns.create::<Deployment>(server_deployment("api", 1)).await.unwrap();
    // Nobody listens where it says.
    let deaf = json!({"spec": {"template": {"spec": {"containers": [with(
        demo_container(&["serve", "--port", "8081"]),
        json!({"name": "app", "ports": [{"name": "http", "containerPort": 8080}]}),
    )]}}}});
    ns.create::<Deployment>(with(server_deployment("deaf", 1), deaf)).await.unwrap();
    for name in ["web", "api", "deaf"] {
        ns.create::<Service>(service(name)).await.unwrap();
    }
    ns.create::<Pod>(writer_pod("logs", None)).await.unwrap();
    for name in ["web", "api", "deaf"] {
        ns.rolled_out(name).await;
    }
    for pod in ns.pods("app=api").await.unwrap() {
        let uri =
            format!("/api/v1/namespaces/{}/pods/{}:8080/proxy/fault?errors=100", ns.name, pod.name_any());
        ns.client.request_text(http::Request::put(uri).body(Vec::new()).unwrap()).await.unwrap();
    }
    let long = ["--rate=10"];
    ns.create::<Job>(fetch("page", "http://web/shop/1", FOR_LONG, 502, &long)).await.unwrap();
    ns.create::<Job>(fetch("start", "http://web/", FOR_LONG, 200, &long)).await.unwrap();
    ns.create::<Job>(fetch("nobody", "http://deaf/", FOR_LONG, 502, &long)).await.unwrap();
}

/// A dashboard's title, and a panel's, with each of its queries.
fn panels() -> Vec<(String, String)> {
    let mut panels = Vec::new();
    for file in std::fs::read_dir(Path::new(CHART).join("dashboards")).unwrap() {
        let dashboard: Value =
            serde_json::from_str(&std::fs::read_to_string(file.unwrap().path()).unwrap()).unwrap();
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().unwrap() {
                let title =
                    format!("{}: {}", dashboard["title"].as_str().unwrap(), panel["title"].as_str().unwrap());
                panels.push((title, target["expr"].as_str().unwrap().to_owned()));
            }
        }
    }
    assert!(panels.len() > 50, "{}", panels.len());
    panels
}

/// The queries that docs/autoscaling.md gives to Prometheus' adapter, filled in as the adapter does, and to KEDA.
fn queries_of_others(namespace: &str) -> Vec<(String, String)> {
    let page = std::fs::read_to_string(Path::new(CHART).join("../../docs/autoscaling.md")).unwrap();
    let (mut series, mut queries) = (String::new(), Vec::new());
    for line in page.lines().map(str::trim) {
        if let Some(found) = line.strip_prefix("- seriesQuery: '") {
            found.split('{').next().unwrap_or_default().clone_into(&mut series);
        } else if let Some(found) = line.strip_prefix("metricsQuery: '") {
            let matchers = format!("namespace=\"{namespace}\", pod=~\"web-.+\"");
            let query = found.trim_end_matches('\'').replace("<<.Series>>", &series);
            let query = query.replace("<<.LabelMatchers>>", &matchers).replace("<<.GroupBy>>", "pod");
            queries.push(("the adapter".to_owned(), query.replace("[2m]", "[10s]")));
        } else if let Some(found) = line.strip_prefix("query: ") {
            queries.push(("KEDA".to_owned(), found.replace("\"shop\"", &format!("\"{namespace}\""))));
        }
    }
    assert_eq!(queries.len(), 4, "{queries:?}");
    queries
}

#[tokio::test]
async fn every_query_of_the_dashboards_finds_something() {
    let _alone = release::alone().await;
    let _release = Release::with(&["auditInterval=5s"]).await;
    with_namespace(&[], |ns| async move {
        some_of_everything(&ns).await;
        prometheus::start(&ns).await;
        let pods: Vec<_> =
            ns.pods("outrigger.dev/injected=true").await.unwrap().iter().map(ResourceExt::name_any).collect();
        let mut left = panels();
        left.extend(queries_of_others(&ns.name));
        let filled = |expression: &str, pod: &str| {
            let workload = if pod.starts_with("deaf") { "deaf" } else { "web" };
            let variables = [
                ("$__rate_interval", "10s"),
                ("$__range", "1m"),
                ("$namespace", ns.name.as_str()),
                ("$workload", workload),
                ("$pod", pod),
            ];
            variables.iter().fold(expression.to_owned(), |text, (name, value)| text.replace(name, value))
        };
        eventually("each query finds something", DEADLINE * 2, || {
            let (ns, pods, asked) = (&ns, &pods, left.clone());
            async move {
                let mut empty = Vec::new();
                for (title, expression) in asked {
                    let mut found = false;
                    for pod in pods {
                        found = found
                            || !query(ns, POD, &filled(&expression, pod))
                                .await
                                .context(title.clone())?
                                .is_empty();
                    }
                    if !found {
                        empty.push((title, expression));
                    }
                }
                ensure!(empty.is_empty(), "nothing for {empty:#?}");
                Ok(())
            }
        })
        .await;
        for name in ["page", "start", "nobody"] {
            let _ = ns.api::<Job>().delete(name, &DeleteParams::background()).await;
        }
    })
    .await;
}
