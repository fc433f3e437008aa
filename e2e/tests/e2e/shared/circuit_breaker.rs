//! The circuit breaker between a frontend and an API that fails, by both ways of interception.

use anyhow::ensure;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::ResourceExt;
use outrigger_api::names;
use outrigger_e2e::manifest::{server_deployment, server_pod, service};
use outrigger_e2e::metrics::sum_over;
use outrigger_e2e::namespace::DEADLINE;
use outrigger_e2e::{Namespace, eventually, injected};
use serde_json::json;

use super::in_namespace;
use crate::ENABLED;

const STATE: &str = "outrigger_circuit_state";
const HALF_OPENED: &str = r#"outrigger_circuit_transitions_total{to="half_open"}"#;
const REJECTED: &str = r#"outrigger_circuit_rejected_total{mode="enforce"}"#;
const SENT: &str = r#"outrigger_http_requests_total{direction="outbound",upstream="api"}"#;
const ASKED: &str = r#"outrigger_http_requests_total{direction="inbound"}"#;

/// The frontend and the API that it asks three times for each of its pages.
struct Shop {
    ns: Namespace,
    frontend: Pod,
    api: Pod,
}

impl Shop {
    async fn open(ns: Namespace, interception: &str, mode: &str) -> Self {
        let breaker = json!({
            "mode": mode,
            // By their share alone, so that it takes the least number of requests.
            "consecutiveFailures": 0, "minRequests": 20, "openFor": "2s", "maxOpenFor": "2s",
            // The page takes what is a 200 for products.
            "fallback": {"status": 200, "bodyFrom": {"configMapName": "canned", "key": "answer.json"}},
        });
        let upstream =
            json!({"name": "api", "host": "api", "port": 80, "env": "API_URL", "circuitBreaker": breaker});
        ns.annotate("outrigger.dev/interception", interception).await;
        let canned = json!({"answer.json": r#"{"products":[],"from":"{upstream}, {reason}"}"#});
        // Without it the frontend would not start.
        ns.create::<ConfigMap>(json!({"metadata": {"name": "canned"}, "data": canned}))
            .await
            .expect("a ConfigMap");
        ns.create_profile("web", json!({"upstreams": [upstream]})).await.expect("the profile is right");
        ns.annotate(names::PROFILE_ANNOTATION, "web").await;
        eventually("the webhook to know the profile", DEADLINE, || async {
            let pod = ns.dry_run(server_pod("probe")).await?;
            ensure!(injected::config(&pod).profile.ends_with("/web"), "not yet");
            Ok(())
        })
        .await;
        ns.create::<Service>(service("api")).await.expect("a Service");
        ns.create::<Deployment>(server_deployment("api", 1)).await.expect("a Deployment");
        let mut frontend = server_deployment("frontend", 1);
        frontend["spec"]["template"]["spec"]["containers"][0]["env"] =
            json!([{"name": "API_URL", "value": "http://api"}]);
        ns.create::<Deployment>(frontend).await.expect("a Deployment");
        let [api, frontend] =
            [ns.rolled_out("api").await, ns.rolled_out("frontend").await].map(|mut pods| pods.remove(0));
        let shop = Self { ns, frontend, api };
        eventually("the page to be whole", DEADLINE, || async {
            let (status, page) = shop.page().await?;
            ensure!(status == 200 && page.matches(": here").count() == 3, "{status}: {page}");
            Ok(())
        })
        .await;
        shop
    }

    /// What a pod's app answers, and with which status.
    async fn ask(&self, pod: &Pod, method: &str, path: &str) -> anyhow::Result<(u16, String)> {
        let (namespace, name) = (&self.ns.name, pod.name_any());
        let uri = format!("/api/v1/namespaces/{namespace}/pods/{name}:8080/proxy{path}");
        let request = http::Request::builder().method(method).uri(uri).body(Vec::new())?;
        match self.ns.client.request_text(request).await {
            Ok(text) => Ok((200, text)),
            Err(kube::Error::Api(answer)) => Ok((answer.code, answer.message.clone())),
            Err(error) => Err(error.into()),
        }
    }

    async fn page(&self) -> anyhow::Result<(u16, String)> {
        self.ask(&self.frontend, "GET", "/shop/7").await
    }

    /// So many of 100 of the API's answers are errors from now on.
    async fn set_errors(&self, percent: u32) {
        let set = self.ask(&self.api, "PUT", &format!("/fault?errors={percent}")).await;
        assert_eq!(set.expect("the API answers").0, 200);
    }

    async fn of_frontend(&self, series: &str) -> anyhow::Result<u64> {
        sum_over(&self.ns.client, std::slice::from_ref(&self.frontend), series).await
    }

    /// How often the API was asked.
    async fn asked(&self) -> anyhow::Result<u64> {
        sum_over(&self.ns.client, std::slice::from_ref(&self.api), ASKED).await
    }
}

async fn trips_and_closes(ns: Namespace, interception: &str) {
    let shop = Shop::open(ns, interception, "enforce").await;
    let healthy = shop.asked().await.expect("metrics");
    shop.set_errors(100).await;
    eventually("it to open", DEADLINE, || async {
        let (status, page) = shop.page().await?;
        ensure!(shop.of_frontend(STATE).await? == 1, "{status}: {page}");
        Ok(())
    })
    .await;
    // With those that met no API, which was not there yet.
    let sent =
        shop.of_frontend(SENT).await.expect("metrics") - shop.of_frontend(REJECTED).await.expect("metrics");
    assert!(sent >= 20, "not before the least number of requests: {sent}");
    let failed = shop.asked().await.expect("metrics") - healthy;
    assert!(failed >= 10, "of 20 requests, half must have failed: {failed}");

    eventually("a page of canned answers", DEADLINE, || async {
        // Each of the API's own is an error.
        let (status, page) = shop.page().await?;
        ensure!(status == 200 && page.matches(": here").count() == 3, "{status}: {page}");
        Ok(())
    })
    .await;

    // The page gets these, and the API what tries.
    let trials = shop.of_frontend(HALF_OPENED).await.expect("metrics");
    let before = shop.asked().await.expect("metrics");
    eventually("two trials to have failed", DEADLINE, || async {
        let (status, page) = shop.page().await?;
        // One whose products met a trial is an error.
        ensure!(status == 200 || page.contains("products said 500"), "{status}: {page}");
        let more = shop.of_frontend(HALF_OPENED).await? - trials;
        ensure!(more >= 2, "{more} trials");
        Ok(())
    })
    .await;
    let trials = shop.of_frontend(HALF_OPENED).await.expect("metrics") - trials;
    let asked = shop.asked().await.expect("metrics") - before;
    assert!(asked <= trials, "{asked} requests for {trials} trials");
    assert!(shop.of_frontend(REJECTED).await.expect("metrics") > 0);

    shop.set_errors(0).await;
    eventually("it to close", DEADLINE, || async {
        let (status, page) = shop.page().await?;
        ensure!(shop.of_frontend(STATE).await? == 0, "{status}: {page}");
        Ok(())
    })
    .await;
    let before = shop.asked().await.expect("metrics");
    assert_eq!(shop.page().await.expect("a page").0, 200);
    eventually("the API to be asked again", DEADLINE, || async {
        let asked = shop.asked().await? - before;
        ensure!(asked == 3, "{asked}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_failing_api_is_left_alone_until_it_recovers_by_ports() {
    in_namespace(&[ENABLED], |ns| trips_and_closes(ns, "ports")).await;
}

#[tokio::test]
async fn a_failing_api_is_left_alone_until_it_recovers_redirected() {
    in_namespace(&[ENABLED], |ns| trips_and_closes(ns, "redirect")).await;
}

#[tokio::test]
async fn observing_a_breaker_only_reports() {
    in_namespace(&[ENABLED], |ns| async move {
        let shop = Shop::open(ns, "redirect", "observe").await;
        shop.set_errors(100).await;
        let before = shop.asked().await.expect("metrics");
        let (mut pages, mut kept) = (0, 0);
        // As many as it takes to open, and to have something that an open one keeps.
        while kept == 0 && pages < 1000 {
            let (status, page) = shop.page().await.expect("a page");
            assert!(status == 502 && page.contains("products said 500"), "{status}: {page}");
            pages += 1;
            let series = r#"outrigger_circuit_rejected_total{mode="observe"}"#;
            kept = shop.of_frontend(series).await.expect("metrics");
        }
        assert!(kept > 0, "it would have kept none of {pages} pages");
        eventually("all of them to have come", DEADLINE, || async {
            let asked = shop.asked().await? - before;
            ensure!(asked == 3 * pages, "{asked}");
            Ok(())
        })
        .await;
    })
    .await;
}
