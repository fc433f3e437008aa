//! What a user looks at: the chart's collector, and the sidecars themselves, both asked by the command through forwarded ports.

use anyhow::ensure;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Service;
use outrigger_api::names;
use outrigger_e2e::eventually;
use outrigger_e2e::manifest::{fetch_job, server_deployment, service, with};
use outrigger_e2e::namespace::DEADLINE;
use serde_json::{Value, json};

use super::in_namespace;
use crate::ENABLED;
use crate::command::{outrigger, outrigger_json, start};

#[tokio::test]
async fn the_collector_shows_the_pods_that_were_injected_and_counts_each_request() {
    in_namespace(&[ENABLED], |ns| async move {
        ns.create::<Deployment>(server_deployment("web", 2)).await.unwrap();
        ns.create::<Service>(service("web")).await.unwrap();
        ns.rolled_out("web").await;
        ns.leads_to_its_pods("web").await;
        ns.create::<Job>(fetch_job("load", "http://web/", 400)).await.unwrap();
        ns.job_completed("load").await;
        let name = format!("{}/web", ns.name);
        eventually("the collector has it all", DEADLINE, || async {
            let (told, _) = outrigger_json(&["top", &name]);
            let list = |list: &str| told[list].as_array().cloned().unwrap_or_default();
            let good = list("podCards").iter().filter(|pod| pod["state"] == "good").count();
            let hits: u64 = list("endpoints").iter().filter_map(|endpoint| endpoint["hits"].as_u64()).sum();
            ensure!(good == 2 && hits == 400, "{good} good pods, {hits} hits: {told}");
            Ok(())
        })
        .await;
        let (mesh, _) = outrigger_json(&["top"]);
        let named = |service: &&Value| service["namespace"] == ns.name.as_str() && service["name"] == "web";
        assert!(mesh["services"].as_array().unwrap().iter().any(|service| named(&service)), "{mesh}");
    })
    .await;
}

#[tokio::test]
async fn live_requests_are_shown_once_the_profile_allows_it() {
    const WANTED: usize = 5;
    in_namespace(&[ENABLED], |ns| async move {
        ns.create_profile("own", json!({})).await.unwrap();
        let annotations = json!({"metadata": {"annotations": {names::PROFILE_ANNOTATION: "own"}}});
        let deployment = with(server_deployment("web", 2), json!({"spec": {"template": annotations}}));
        ns.create::<Deployment>(deployment).await.unwrap();
        ns.create::<Service>(service("web")).await.unwrap();
        ns.rolled_out("web").await;
        ns.leads_to_its_pods("web").await;
        let refused = outrigger(&["tap", "deploy/web", "-n", &ns.name]);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(refused.status.code() == Some(2) && said.contains("does not allow it"), "{said}");

        ns.change_profile("own", json!({"proxy": {"tap": {"enabled": true}}})).await;
        let reconfigured = outrigger(&["reconfigure", "deploy/web", "-n", &ns.name, "--wait", "5m"]);
        assert!(reconfigured.status.success(), "{}", String::from_utf8_lossy(&reconfigured.stderr));
        let count = WANTED.to_string();
        let mut tap =
            start(&["tap", "svc/web", "-n", &ns.name, "--path", "/status/", "--count", &count, "-o", "json"]);
        for number in 0.. {
            let name = format!("load-{number}");
            ns.create::<Job>(fetch_job(&name, "http://web/status/200?token=secret", 20)).await.unwrap();
            ns.job_completed(&name).await;
            if tap.try_wait().unwrap().is_some() {
                break;
            }
        }
        let output = tap.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && !text.contains("secret"), "{text}");
        let requests: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let told = |request: &Value| request["path"] == "/status/200" && request["status"] == 200;
        assert!(requests.len() == WANTED && requests.iter().all(told), "{text}");
    })
    .await;
}
