//! A `HorizontalPodAutoscaler` that goes by requests, as Kubernetes' own controller reads them from the chart's collector.

use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::jiff::Timestamp;
use kube::api::DeleteParams;
use outrigger_e2e::manifest::{demo_container, server_deployment, server_pod, service, with};
use outrigger_e2e::namespace::DEADLINE;
use outrigger_e2e::{Namespace, Release, eventually, release, with_namespace};
use serde_json::{Value, json};

use crate::ENABLED;
use crate::command::outrigger_json;

const RATE: &str = "outrigger_http_requests_per_second";
/// The autoscaler looks each 3 s here, and waits 15 s before it takes pods away.
const SCALED: Duration = Duration::from_mins(10);

/// What the API server passes on, as this user asks; nobody means the administrator.
async fn metric(ns: &Namespace, user: Option<&str>, metric: &str) -> Result<Value, kube::Error> {
    let uri = format!("/apis/custom.metrics.k8s.io/v1beta2/namespaces/{}/pods/*/{metric}", ns.name);
    let request = http::Request::get(uri);
    let request = user.into_iter().fold(request, |request, user| request.header("Impersonate-User", user));
    ns.client.request(request.body(Vec::new()).unwrap()).await
}

/// Requests a second of all pods together, and of how many pods.
async fn rate(ns: &Namespace) -> anyhow::Result<(f64, usize)> {
    let list = metric(ns, None, RATE).await?;
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let value = |item: &Value| -> Option<f64> {
        let text = item["value"].as_str()?;
        text.strip_suffix('m')
            .map_or_else(|| text.parse().ok(), |milli| Some(milli.parse::<f64>().ok()? / 1000.0))
    };
    let values = items.iter().map(value).collect::<Option<Vec<_>>>().context("a value is a quantity")?;
    Ok((values.iter().sum(), values.len()))
}

/// How many seconds ago the sidecars said so. One node, one clock.
fn ages(items: &Value) -> Vec<f64> {
    let age = |item: &Value| {
        let at: Timestamp = item["timestamp"].as_str().unwrap().parse().unwrap();
        Timestamp::now().duration_since(at).as_secs_f64()
    };
    items.as_array().unwrap().iter().map(age).collect()
}

async fn scaled_to(ns: &Namespace, replicas: i32) {
    eventually(&format!("{replicas} replicas"), SCALED, || async {
        let found = ns.api::<Deployment>().get("web").await?.spec.and_then(|spec| spec.replicas);
        let autoscaler = ns.api::<HorizontalPodAutoscaler>().get("web").await?.status;
        ensure!(found == Some(replicas), "{found:?}: {}", serde_json::to_string(&autoscaler)?);
        Ok(())
    })
    .await;
}

/// A Job that sends so many requests a second, until it is deleted.
fn load(rate: u32) -> Value {
    let rate = format!("--rate={rate}");
    let args = ["fetch", "http://web/", &rate, "--count=100000000", "--concurrency=8", "--wait=120"];
    let fetch = with(demo_container(&args), json!({"name": "fetch"}));
    let pod = json!({"restartPolicy": "Never", "containers": [fetch]});
    json!({"metadata": {"name": "load"}, "spec": {"backoffLimit": 0, "template": {"spec": pod}}})
}

#[tokio::test]
async fn pods_follow_the_requests_of_an_app_that_knows_nothing_of_it() {
    let _alone = release::alone().await;
    let _release = Release::with(&["customMetrics.enabled=true"]).await;
    with_namespace(&[ENABLED], |ns| async move {
        ns.create::<Deployment>(server_deployment("web", 2)).await.unwrap();
        ns.create::<Service>(service("web")).await.unwrap();
        let plain = json!({"metadata": {"labels": {"outrigger.dev/inject": "disabled"}}});
        ns.create::<Pod>(with(server_pod("plain"), plain)).await.unwrap();
        ns.rolled_out("web").await;
        ns.pod_ready("plain").await;

        // No load is a rate of 0; a pod that nobody counts for has none.
        eventually("both pods have a rate", DEADLINE, || async {
            let (sum, pods) = rate(&ns).await?;
            ensure!(pods == 2 && sum == 0.0, "{sum} of {pods} pods");
            Ok(())
        })
        .await;
        let eve = format!("system:serviceaccount:{}:default", ns.name);
        match metric(&ns, Some(&eve), RATE).await {
            Err(kube::Error::Api(status)) => assert_eq!(status.code, 403, "{}", status.message),
            other => panic!("{other:?} for somebody without the right"),
        }

        let (manifest, _) = outrigger_json(&["hpa", "deploy/web", "--min", "2", "--max", "6", "--rps", "20"]);
        ns.create::<HorizontalPodAutoscaler>(manifest).await.unwrap();
        ns.create::<Job>(load(150)).await.unwrap();
        eventually("the rate is the client's, within 5 %", DEADLINE, || async {
            let (sum, pods) = rate(&ns).await?;
            ensure!((142.5..157.5).contains(&sum), "{sum} of {pods} pods");
            Ok(())
        })
        .await;
        eventually("answers of the last seconds", DEADLINE, || async {
            let ages = ages(&metric(&ns, None, RATE).await?["items"]);
            // They are told in whole seconds.
            ensure!(ages.len() >= 2 && ages.iter().all(|age| *age < 3.0), "they are {ages:?} s old");
            Ok(())
        })
        .await;
        scaled_to(&ns, 6).await;
        ns.api::<Job>().delete("load", &DeleteParams::background()).await.unwrap();
        scaled_to(&ns, 2).await;
    })
    .await;
}
