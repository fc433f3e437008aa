//! The chart's collector, asked by the command through a forwarded port, as `outrigger dashboard` forwards it.

use anyhow::ensure;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Service;
use outrigger_e2e::eventually;
use outrigger_e2e::manifest::{fetch_job, server_deployment, service};
use outrigger_e2e::namespace::DEADLINE;
use serde_json::Value;

use super::in_namespace;
use crate::ENABLED;
use crate::command::outrigger_json;

#[tokio::test]
async fn the_collector_shows_the_pods_that_were_injected_and_counts_each_request() {
    in_namespace(&[ENABLED], |ns| async move {
        ns.create::<Deployment>(server_deployment("web", 2)).await.unwrap();
        ns.create::<Service>(service("web")).await.unwrap();
        ns.rolled_out("web").await;
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
