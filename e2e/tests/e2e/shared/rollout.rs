//! A rollout under load, whichever way traffic comes to the proxy.

use anyhow::ensure;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Service;
use outrigger_e2e::manifest::{fetch_job, server_deployment, with};
use outrigger_e2e::namespace::{DEADLINE, is_ready};
use outrigger_e2e::{Namespace, eventually};
use serde_json::{Value, json};

/// Restarts the pods behind this Service, named `web`, while a Job asks it, and fails if one answer is not a 200.
///
/// The app waits a moment before it ends, as apps behind a Service must; clients keep their connections open. Without
/// sidecars no request is lost then, so with them none may be.
pub(super) async fn rolls_out_under_load(ns: &Namespace, service: Value) {
    let mut web = with(
        server_deployment("web", 2),
        json!({"spec": {"strategy": {"rollingUpdate": {"maxUnavailable": 0}}}}),
    );
    let app = &mut web["spec"]["template"]["spec"]["containers"][0];
    app["lifecycle"] = json!({"preStop": {"sleep": {"seconds": 10}}});
    web["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 30.into();
    ns.create::<Service>(service).await.unwrap();
    ns.create::<Deployment>(web).await.unwrap();
    ns.rolled_out("web").await;
    ns.leads_to_its_pods("web").await;

    // 25 seconds, which a rollout takes less of, unless the machine is slow.
    let mut load = fetch_job("load", "http://web/", 2500);
    let args = load["spec"]["template"]["spec"]["containers"][0]["args"].as_array_mut().unwrap();
    args.push(json!("--rate=100"));
    ns.create::<Job>(load).await.unwrap();
    eventually("the load to begin", DEADLINE, || async {
        let pods = ns.pods("job-name=load").await?;
        ensure!(pods.iter().any(is_ready), "{} pods", pods.len());
        Ok(())
    })
    .await;
    ns.restart("web").await;
    ns.rolled_out("web").await;
    ns.job_completed("load").await;
}
